"""Model versions: training, ONNX export, gate, and the MLflow registry with its aliases."""
