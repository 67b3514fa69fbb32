"""coaps: DTLS 1.2 with certificates below the message layer (RFC 7252, section 9.1). To those above a session is a peer of its own."""
