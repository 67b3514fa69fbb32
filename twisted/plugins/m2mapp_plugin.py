"""Tells `twistd` of the subcommand `m2m`. What it does is in `m2mapp.wiring`, which is imported only when it is used."""

from twisted.application.service import ServiceMaker

m2mapp = ServiceMaker("m2mapp", "m2mapp.wiring", "An IoT gateway: a durable resource tree over HTTP and CoAP, and group requests.", "m2m")
