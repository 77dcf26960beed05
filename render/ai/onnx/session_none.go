//go:build !cgo

package onnx

import "fmt"

// Session is a model in the runtime: none in a program without cgo.
type Session struct{ Model *Model }

// Runtime says which onnxruntime was loaded.
func Runtime(string) (version string, providers []string, err error) {
	return "", nil, fmt.Errorf("%w: this program was built without cgo, which it takes to load it", ErrNoLibrary)
}

// Open loads a model.
func Open(library, file string, o Options) (*Session, error) {
	_, _, err := Runtime(library)
	return nil, err
}

// Device that the session works on.
func (s *Session) Device() string { return "" }

// Run does nothing.
func (s *Session) Run(map[string]Tensor, []string) ([]Tensor, error) { return nil, ErrNoLibrary }

// Close does nothing.
func (s *Session) Close() error { return nil }
