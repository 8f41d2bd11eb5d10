"""Pure core of Tocsin: plant model, readings, registers, Sparkplug codec, alarm engine, tickets and routing; no I/O, time is an argument."""
