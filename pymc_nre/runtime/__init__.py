"""What a long computation needs around it, and what knows nothing of ratios.

Files that are whole or not there (`archive`, `checkpoint`), tasks on any executor (`executors`),
the threads and devices of torch (`devices`), and one look for progress (`progress`). Nothing here
knows what is computed, so every other room may use it.
"""
