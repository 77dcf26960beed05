package main

import "context"

type editChoice struct {
	scenes, edits []string
	quick         bool
}

func (d *differ) edits(ctx context.Context, c editChoice) ([]Figure, error) { return nil, nil }
func (d *differ) stroke(ctx context.Context, quick bool) ([]Figure, error)  { return nil, nil }
