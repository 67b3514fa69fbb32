"""The pages for people, under `/admin/`: one view a page (`views`), its template, and what all pages share."""
