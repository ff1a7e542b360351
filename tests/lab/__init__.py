"""The lab: network namespaces, real peers and the product itself, started and always taken down again."""
