"""The emoji world: labelled scenes made from three free emoji families."""
