"""The shell on a gateway: reads instruments, keeps readings until the cloud has committed them, sends them up."""
