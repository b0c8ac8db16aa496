"""Where votes are computed: in this process, or on replicas."""
