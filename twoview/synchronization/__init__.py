"""How the views' clocks relate: from sound, from motion, or by hand."""
