// Package packaging holds what makes idlewild part of a system.
package packaging

import _ "embed"

// SystemdUnit is a user unit of systemd that starts the program at
// ~/.local/bin/idlewild.
//
//go:embed systemd/idlewild.service
var SystemdUnit string
