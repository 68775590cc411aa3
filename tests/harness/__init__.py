"""What tests share: the real program as a process, and raw clients that sign and speak exactly what they are told."""
