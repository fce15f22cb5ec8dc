"""What is predicted: labels, columns of a prediction, the loss of a row, checks. Pure numpy."""
