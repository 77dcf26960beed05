// Package utils is a drawer.
package utils
