// Package node wires the parts of idlewild into one program: it decides
// lifetimes, holds the configuration and the identity key, and adapts the
// packages to each other's seams. It contains no logic of its own that another
// package could hold; nobody imports it but cmd and bench.
package node
