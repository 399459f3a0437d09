"""edge-asd on the workstation: from clips to a bundle, in the order of the paper's sections."""
