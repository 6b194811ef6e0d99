"""How the referee runs a trial whose outcomes come from a table of published runs."""
