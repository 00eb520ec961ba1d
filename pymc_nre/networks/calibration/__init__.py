"""Logits that are mapped to others.

By curves (`curves`), which change with the parameters (`calibrated`).
"""
