"""Pure, shared formats: documents in JSON and CBOR, shapes that check them, link format, merge patch. Bytes in, values out."""
