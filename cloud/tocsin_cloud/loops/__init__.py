"""The cloud side's loops: each one a coroutine that runs until it is cancelled."""
