"""What columns are: their types and roles, the inputs they make up."""
