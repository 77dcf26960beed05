package render

import "context"

var (
	_ Process = (*LocalProcess)(nil)
	_ Process = (*Sandbox)(nil)
)

// DetectSandbox reports whether this machine can run other people's files in
// a sandbox: of which layers, or why not.
func DetectSandbox(ctx context.Context) (layers string, ok bool, reason string) {
	s, err := NewSandbox(ctx, nil, Limits{})
	if err != nil {
		return "", false, err.Error()
	}
	return s.Layers(), true, ""
}
