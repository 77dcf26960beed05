//go:build !race

package node

const scryptWork = fullScryptWork
