"""What all steps share: clusters, inputs, outputs, memory, messages."""
