"""What torch calls while it computes.

Calls are *followed* one after another (`following`), with entries beside the numbers. Of those that
are no operations of ours, some are *compositions* of others (`compositions`).
"""
