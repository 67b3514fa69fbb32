"""The member device: it holds `/mcGroups`, joins the groups' addresses and answers group requests (spec section 5)."""
