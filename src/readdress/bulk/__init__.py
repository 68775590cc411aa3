"""Many addresses at a time: files of other programs and of our own, into the directory and out of it."""
