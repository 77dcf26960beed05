package packaging

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

type object = map[string]any

// documents are those of a YAML file.
func documents(t *testing.T, name string, text []byte) (out []object) {
	t.Helper()
	for d := yaml.NewDecoder(bytes.NewReader(text)); ; {
		var o object
		err := d.Decode(&o)
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		out = append(out, o)
	}
}

// at follows a path of keys and places in lists.
func at(t *testing.T, o any, path ...any) any {
	t.Helper()
	for i, p := range path {
		switch k := p.(type) {
		case string:
			m, _ := o.(object)
			o = m[k]
		case int:
			l, _ := o.([]any)
			if k >= len(l) {
				t.Fatalf("there is no %v", path[:i+1])
			}
			o = l[k]
		}
		if o == nil {
			t.Fatalf("there is no %v", path[:i+1])
		}
	}
	return o
}

// settingOf reads the code for the names of settings: a variable of a manifest
// that names none would be ignored without a word.
func settings(t *testing.T) map[string]bool {
	t.Helper()
	b, err := os.ReadFile("../node/about.go")
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^\t"([a-z_.]+)":`).FindAllSubmatch(b, -1) {
		out["IDLEWILD_"+strings.ToUpper(strings.ReplaceAll(string(m[1]), ".", "_"))] = true
	}
	if len(out) < 50 {
		t.Fatalf("%d settings found", len(out))
	}
	return out
}

// checkDaemonSet looks for what a node on a strange machine must and must not
// have.
func checkDaemonSet(t *testing.T, o object) {
	t.Helper()
	pod := at(t, o, "spec", "template", "spec")
	main := at(t, pod, "containers", 0)
	known := settings(t)
	for _, e := range at(t, main, "env").([]any) {
		if name := at(t, e, "name").(string); !known[name] {
			t.Errorf("there is no setting for %s", name)
		}
	}
	if at(t, pod, "automountServiceAccountToken") != false || at(t, pod, "hostUsers") != false || at(t, main, "securityContext", "allowPrivilegeEscalation") != false {
		t.Error("it has more rights than it needs")
	}
	if p := pod.(object); p["hostNetwork"] != nil || p["hostPID"] != nil || p["hostIPC"] != nil {
		t.Error("it shares the machine's namespaces")
	}
	if fmt.Sprint(at(t, main, "securityContext", "capabilities", "drop")) != "[ALL]" {
		t.Error("it keeps capabilities")
	}
	volumes := map[string]bool{}
	for _, v := range at(t, pod, "volumes").([]any) {
		volumes[at(t, v, "name").(string)] = true
	}
	for _, list := range []string{"containers", "initContainers"} {
		for _, c := range at(t, pod, list).([]any) {
			at(t, c, "resources", "limits", "memory")
			for _, m := range at(t, c, "volumeMounts").([]any) {
				if name := at(t, m, "name").(string); !volumes[name] {
					t.Errorf("there is no volume %s", name)
				}
			}
			if image := at(t, c, "image").(string); image != "idlewild" && image != "idlewild:latest" {
				t.Errorf("image %s", image)
			}
		}
	}
	ports := map[string]string{}
	for _, p := range at(t, main, "ports").([]any) {
		ports[at(t, p, "name").(string)] = fmt.Sprint(at(t, p, "containerPort"))
	}
	docker, err := os.ReadFile("docker/Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	if want := "IDLEWILD_NETWORK_PORT=" + ports["farm-tcp"]; ports["farm-tcp"] != ports["farm-udp"] || !strings.Contains(string(docker), want) {
		t.Errorf("ports %v are not those of the image", ports)
	}
	if !strings.Contains(string(docker), "USER "+fmt.Sprint(at(t, pod, "securityContext", "runAsUser"))+":") {
		t.Error("the pod's user is not the image's")
	}
}

func TestManifestsForKubernetes(t *testing.T) {
	var set object
	for _, dir := range []string{"kubernetes/base", "kubernetes/cpu"} {
		files, err := filepath.Glob(dir + "/*.yaml")
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %v", dir, err)
		}
		var named []string
		for _, f := range files {
			b, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			for _, o := range documents(t, f, b) {
				at(t, o, "apiVersion")
				switch at(t, o, "kind") {
				case "Kustomization":
					for _, r := range at(t, o, "resources").([]any) {
						if _, err := os.Stat(filepath.Join(dir, r.(string))); err != nil {
							t.Errorf("%s: %v", f, err)
						}
						named = append(named, r.(string))
					}
				case "DaemonSet":
					set = o
					checkDaemonSet(t, o)
				}
			}
		}
		for _, f := range files {
			if name := filepath.Base(f); name != "kustomization.yaml" && !slices.Contains(named, name) {
				t.Errorf("%s is in no kustomization", f)
			}
		}
	}
	if set == nil {
		t.Fatal("no DaemonSet")
	}
}

// What kustomize makes of them.
func TestKustomize(t *testing.T) {
	kubectl, err := exec.LookPath("kubectl")
	if err != nil {
		t.Skip("NOT RUN: kustomize's own look at the manifests: kubectl is not installed")
	}
	for dir, gpu := range map[string]bool{"kubernetes/base": true, "kubernetes/cpu": false} {
		out, err := exec.Command(kubectl, "kustomize", dir).Output()
		if err != nil {
			t.Fatalf("%s: %v", dir, err)
		}
		kinds := map[string]bool{}
		for _, o := range documents(t, dir, out) {
			kind := at(t, o, "kind").(string)
			kinds[kind] = true
			if kind != "DaemonSet" {
				continue
			}
			checkDaemonSet(t, o)
			if at(t, o, "metadata", "namespace") != "idlewild" || at(t, o, "spec", "selector", "matchLabels", "app.kubernetes.io/name") != "idlewild" {
				t.Errorf("%s: it is in the wrong place", dir)
			}
			limits := at(t, o, "spec", "template", "spec", "containers", 0, "resources", "limits").(object)
			if _, ok := limits["nvidia.com/gpu"]; ok != gpu {
				t.Errorf("%s: limits are %v", dir, limits)
			}
			if _, ok := at(t, o, "spec", "template", "spec").(object)["nodeSelector"]; ok != gpu {
				t.Errorf("%s: the machines are chosen wrongly", dir)
			}
		}
		if !kinds["Namespace"] || !kinds["PriorityClass"] || !kinds["DaemonSet"] {
			t.Errorf("%s: only %v", dir, kinds)
		}
	}
}

// The Dockerfile is read as far as it names things of this repository.
func TestDockerfile(t *testing.T) {
	b, err := os.ReadFile("docker/Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	text := regexp.MustCompile(`\\\n`).ReplaceAllString(string(b), " ")
	known, stages, user := settings(t), map[string]bool{}, ""
	allowed := map[string]bool{"ARG": true, "FROM": true, "WORKDIR": true, "COPY": true, "RUN": true, "USER": true, "ENV": true, "VOLUME": true, "EXPOSE": true, "HEALTHCHECK": true, "STOPSIGNAL": true, "ENTRYPOINT": true, "CMD": true}
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) == 0 || f[0][0] == '#' {
			continue
		}
		switch {
		case !allowed[f[0]]:
			t.Errorf("%q is no instruction", f[0])
		case f[0] == "FROM" && len(f) == 4:
			stages[f[3]] = true
		case f[0] == "USER":
			user = f[1]
		case f[0] == "ENV":
			for _, v := range f[1:] {
				if name, _, _ := strings.Cut(v, "="); strings.HasPrefix(name, "IDLEWILD_") && !known[name] {
					t.Errorf("there is no setting for %s", name)
				}
			}
		case f[0] == "COPY" && strings.HasPrefix(f[1], "--from="):
			if !stages[strings.TrimPrefix(f[1], "--from=")] {
				t.Errorf("no stage for %s", line)
			}
		case f[0] == "COPY" && f[1] != ".":
			for _, src := range f[1 : len(f)-1] {
				if _, err := os.Stat("../" + src); err != nil {
					t.Error(err)
				}
			}
		}
	}
	if user == "" || strings.HasPrefix(user, "0") || user == "root" {
		t.Errorf("it runs as %q", user)
	}
	mod, err := os.ReadFile("../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	if m := regexp.MustCompile(`ARG GO=(\S+)`).FindStringSubmatch(text); m == nil || !regexp.MustCompile(`(?m)^go `+regexp.QuoteMeta(m[1])+`(\.|$)`).Match(mod) {
		t.Errorf("it builds with another Go than go.mod names: %v", m)
	}
}
