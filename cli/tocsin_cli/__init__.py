"""The `tocsin` command: mounts the verbs of every installed part and supervises the demo."""
