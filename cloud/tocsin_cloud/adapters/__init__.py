"""Everything of the cloud side that touches the outside world: one module per thing touched."""
