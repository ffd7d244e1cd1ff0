"""Versions of models: training candidates, ONNX export, the gate, and MLflow."""
