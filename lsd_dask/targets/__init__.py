"""What a network learns of labels: affinities and local shape descriptors."""
