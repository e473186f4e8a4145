# The component needs nothing before its target is imported.
