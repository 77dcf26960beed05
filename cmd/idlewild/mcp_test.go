package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"idlewild/node/localapi"
)

// An assistant rents the farm: the SDK's own client, the real program on standard
// input and output, and a daemon in a process of its own.
func TestAnAssistantRentsTheFarm(t *testing.T) {
	dir, err := os.MkdirTemp("", "iw") // short: it holds a socket
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	env := append(os.Environ(), "IDLEWILD_NETWORK_LISTEN=/ip4/127.0.0.1/tcp/0", "IDLEWILD_NETWORK_MDNS=false", "IDLEWILD_IDLE_MODE=off",
		"IDLEWILD_SANDBOX_MODE=off", "IDLEWILD_BLENDER_PATH="+filepath.Join(dir, "none"))
	program := func(args ...string) *exec.Cmd {
		cmd := exec.Command("idlewild", append(args, "--data-dir", dir)...)
		cmd.Env, cmd.Stderr = env, os.Stderr
		return cmd
	}
	client := mcp.NewClient(&mcp.Implementation{Name: "test", Version: "1"}, nil)
	s, err := client.Connect(t.Context(), &mcp.CommandTransport{Command: program("mcp")}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	list, err := s.ListTools(t.Context(), nil)
	var names []string
	for _, x := range list.Tools {
		names = append(names, x.Name)
	}
	if err != nil || strings.Join(names, " ") != "cancel fetch inspect price status submit" {
		t.Fatal(names, err)
	}
	// call returns what a tool says, and whether it says that something is wrong.
	call := func(name string, in, out any) (string, bool) {
		t.Helper()
		r, err := s.CallTool(t.Context(), &mcp.CallToolParams{Name: name, Arguments: in})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		text := r.Content[0].(*mcp.TextContent).Text
		if !r.IsError && out != nil {
			if err := json.Unmarshal([]byte(text), out); err != nil {
				t.Fatalf("%s: %s: %v", name, text, err)
			}
		}
		return text, r.IsError
	}
	if text, bad := call("status", map[string]any{}, nil); !bad || !strings.Contains(text, "idlewild up") {
		t.Errorf("without a daemon: %s", text)
	}

	daemon := program("up")
	if err := daemon.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		daemon.Process.Signal(os.Interrupt)
		daemon.Wait()
	}()
	for deadline := time.Now().Add(2 * time.Minute); ; {
		if c, err := localapi.Dial(dir); err == nil {
			if _, err = c.Status(t.Context()); err == nil {
				break
			}
		}
		if time.Now().After(deadline) {
			t.Fatal("the daemon does not answer")
		}
		<-time.After(20 * time.Millisecond)
	}

	out := filepath.Join(dir, "out")
	work := map[string]any{"kind": "echo", "params": map[string]any{"count": 3, "text": "hello"}, "output": out}
	var price mcpPrice
	if text, bad := call("price", work, &price); bad || price.Tasks != 3 || price.Refused {
		t.Errorf("%s", text)
	}
	var look mcpInspected
	if text, bad := call("inspect", work, &look); bad || look.Refused {
		t.Errorf("%s", text)
	}
	var made mcpSubmitted
	if text, bad := call("submit", work, &made); bad || made.Job == "" || made.Output != out {
		t.Fatalf("%s", text)
	}
	var now mcpStatus
	for deadline := time.Now().Add(2 * time.Minute); ; {
		if text, bad := call("status", map[string]any{"job": made.Job}, &now); bad || len(now.Jobs) != 1 {
			t.Fatal(text)
		}
		if now.Jobs[0].State == "finished" {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%+v", now)
		}
		<-time.After(50 * time.Millisecond)
	}
	var files fetchDoc
	copies := filepath.Join(dir, "copies")
	if text, bad := call("fetch", map[string]any{"job": made.Job, "output": copies}, &files); bad || len(files.Files) != 3 || files.Folder != copies {
		t.Fatal(text)
	}
	for _, f := range files.Files {
		if _, err := os.Stat(f); err != nil || !strings.HasPrefix(f, copies) {
			t.Error(f, err)
		}
	}
	var ended mcpJobStatus
	if text, bad := call("cancel", map[string]any{"job": made.Job}, &ended); !bad && ended.State != "finished" {
		t.Errorf("%s", text)
	}
	for name, in := range map[string]map[string]any{
		"submit": {"kind": "echo", "output": "relative"},
		"price":  {"file": filepath.Join(dir, "nowhere.blend")},
		"status": {"job": "../x"},
		"fetch":  {"job": "01ARZ3NDEKTSV4RRFFQ69G5FAV"},
		"cancel": {"job": "01ARZ3NDEKTSV4RRFFQ69G5FAV"},
	} {
		if text, bad := call(name, in, nil); !bad || text == "" {
			t.Errorf("%s %v: %s", name, in, text)
		}
	}
}
