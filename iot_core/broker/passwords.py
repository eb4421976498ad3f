"""Mosquitto's password form, under the broker's name; it stands in the registry, which the broker builds on."""

from iot_core.registry.passwords import check_secret, hash_secret

__all__ = ["check_secret", "hash_secret"]
