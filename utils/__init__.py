"""Rooms that know neither the network nor the platform."""
