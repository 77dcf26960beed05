//go:build !unix

package render

const openFlags = 0
