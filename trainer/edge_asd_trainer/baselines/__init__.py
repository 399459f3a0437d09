"""Systems to be beaten. One that learns must beat those that don't, on the same split."""
