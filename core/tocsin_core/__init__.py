"""Pure core of Tocsin: plant, readings, registers, Sparkplug, alarm engine, tickets and routing; no I/O, no clock."""
