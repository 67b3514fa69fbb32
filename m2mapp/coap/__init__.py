"""CoAP: message layer, server, client, group sender, block-wise transfer. The only importer of txThings (`coap.things`)."""
