package render

var (
	_ Process = (*LocalProcess)(nil)
	_ Process = (*Sandbox)(nil)
)
