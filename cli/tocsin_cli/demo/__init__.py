"""The demo: a simulated plant, its gateways, the broker and the cloud side, each a process of one supervisor."""
