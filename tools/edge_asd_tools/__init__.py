"""edge-asd for the operator: a synthetic plant, deployment, the demonstration."""
