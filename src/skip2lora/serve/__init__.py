"""A model in the field: it predicts a stream, notices change, asks for labels, learns and adopts.

Everything here reads an adapted model and what it computed; nothing below knows of it. What outside
programs speak (HTTP, MQTT) is one module each.
"""
