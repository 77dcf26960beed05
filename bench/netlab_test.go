package main

import (
	"os"
	"strings"
	"testing"

	"idlewild/internal/netlab"
)

// TestNetlabShort is the least that must hold in every change: members behind
// routers find a direct way, also after both were started anew, and where there
// is none a relay. How long it takes is make netlab's to tell.
func TestNetlabShort(t *testing.T) {
	if err := netlab.Allowed(); err != nil {
		if strings.Contains(os.Getenv("IDLEWILD_REQUIRE"), "netns") {
			t.Fatal("network namespaces are required:", err)
		}
		t.Skip("NOT RUN: no network namespaces:", err)
	}
	for _, s := range netlabScenarios {
		if s.name != "punch" && s.name != "relay" {
			continue
		}
		t.Run(s.name, func(t *testing.T) {
			figures, err := netlabOne(t.Context(), s, 0)
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range figures {
				t.Logf("%s: %g %s", f.Name, f.Value, f.Unit)
				if (f.Unit == "" || strings.Contains(f.Name, "lost")) && !f.Holds {
					t.Errorf("%s: %g, want %s", f.Name, f.Value, f.Goal)
				}
			}
		})
	}
}
