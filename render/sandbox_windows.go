package render

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/windows"
)

// Not run: no Windows machine here; this file is only compiled and vetted. Its
// Proven says so, and a node does not trust strangers' files to it.

// Sandbox starts sessions with a restricted token: what they open has to be
// open to the user and also to the token's few groups, to which the system's
// programs are readable and a user's own files are not. Their integrity is
// low, they are in a Job Object with limits that no second process enters, and
// the firewall keeps their program from the network.
type Sandbox struct {
	local *LocalProcess
}

// NewSandbox finds out whether there is a sandbox, by running a process in it
// and looking at what it could do. The error says why there is none. log may
// be nil.
func NewSandbox(ctx context.Context, log *slog.Logger, limits Limits) (*Sandbox, error) {
	s := &Sandbox{local: NewLocalProcess(log)}
	s.local.Limits = limits
	s.local.Limits.alone = true
	if err := s.probe(ctx); err != nil {
		return nil, fmt.Errorf("a restricted process cannot be made here: %w", err)
	}
	return s, nil
}

// Layers says in words what the sandbox consists of.
func (*Sandbox) Layers() string {
	return "restricted token, low integrity, job object (one process, memory), firewall rule; never run by those who wrote it"
}

// Proven reports whether anybody has seen it hold.
func (*Sandbox) Proven() bool { return false }

// Shows is false: there are no mounts.
func (*Sandbox) Shows() bool { return false }

// probe runs a script inside and believes only what it did.
func (s *Sandbox) probe(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "idlewild-probe-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	root := SessionRoot{In: filepath.Join(dir, "in"), Work: filepath.Join(dir, "work")}
	for _, d := range []string{root.In, root.Work} {
		if err := os.Mkdir(d, 0o700); err != nil {
			return err
		}
	}
	secret := filepath.Join(dir, "secret")
	script := strings.Join([]string{
		"@echo off",
		"echo x> \"" + filepath.Join(root.Work, "ok") + "\"",
		"type \"" + secret + "\" && exit 11",
		"echo x> \"" + secret + "2\" && exit 12",
		"echo x> \"" + filepath.Join(root.In, "x") + "\" && exit 13",
		"echo {\"event\":\"ready\"}>> \"%IDLEWILD_EVENTS%\"",
		"",
	}, "\r\n")
	for path, text := range map[string]string{secret: "secret", filepath.Join(root.In, "probe.cmd"): script} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			return err
		}
	}
	shell := filepath.Join(os.Getenv("SystemRoot"), "System32", "cmd.exe")
	se, err := s.start(ctx, Command{Path: shell, Args: []string{"/d", "/c", `{in}\probe.cmd`}, StartTimeout: 10 * time.Second}, root)
	if err != nil {
		return err
	}
	se.Close()
	if _, err := os.Stat(filepath.Join(root.Work, "ok")); err != nil {
		return errors.New("a file written inside did not appear")
	}
	for _, path := range []string{secret + "2", filepath.Join(root.In, "x")} {
		if _, err := os.Stat(path); err == nil {
			return errors.New("a file was written outside of its folder")
		}
	}
	return nil
}

// Start implements Process.
func (s *Sandbox) Start(ctx context.Context, cmd Command, root SessionRoot) (Session, error) {
	// This very program needs the network for itself; as a runner it has no
	// scripts to run.
	if self, err := os.Executable(); err != nil || !strings.EqualFold(self, cmd.Path) {
		if err := blockNetwork(ctx, cmd.Path); err != nil {
			return nil, err
		}
	}
	return s.start(ctx, cmd, root)
}

func (s *Sandbox) start(ctx context.Context, cmd Command, root SessionRoot) (Session, error) {
	l, err := localLaunch(cmd, root)
	if err != nil {
		return nil, err
	}
	if err := open(root.Work, windows.GENERIC_ALL); err != nil {
		return nil, err
	}
	if err := lowIntegrity(root.Work); err != nil {
		return nil, err
	}
	read := append(append([]string{root.In}, cmd.ReadOnly...), root.Trees...)
	if cmd.Runner != "" {
		read = append(read, cmd.Runner)
	}
	for _, path := range read {
		// A folder of the system's own is open already, and not ours to change.
		if err := open(path, windows.GENERIC_READ|windows.GENERIC_EXECUTE); err != nil && !errors.Is(err, windows.ERROR_ACCESS_DENIED) {
			return nil, err
		}
	}
	l.prepare = func(attr *syscall.SysProcAttr) (func(), error) {
		token, err := restrictedToken()
		if err != nil {
			return nil, err
		}
		attr.Token = syscall.Token(token)
		return func() { token.Close() }, nil
	}
	se, err := s.local.start(ctx, l)
	if err != nil {
		return nil, err
	}
	return se, nil
}

// blockNetwork makes sure that the firewall lets the program reach nothing.
func blockNetwork(ctx context.Context, program string) error {
	name := "name=idlewild " + program
	netsh := filepath.Join(os.Getenv("SystemRoot"), "System32", "netsh.exe")
	if exec.CommandContext(ctx, netsh, "advfirewall", "firewall", "show", "rule", name, "dir=out").Run() == nil {
		return nil
	}
	add := []string{"advfirewall", "firewall", "add", "rule", name, "dir=out", "action=block", "enable=yes", "profile=any", "program=" + program}
	if err := exec.CommandContext(ctx, netsh, add...).Run(); err != nil {
		return BrokenError("the firewall does not keep %s from the network; run once as administrator: netsh advfirewall firewall add rule \"%s\" dir=out action=block program=\"%s\"", program, name, program)
	}
	return nil
}

var createRestrictedToken = windows.NewLazySystemDLL("advapi32.dll").NewProc("CreateRestrictedToken")

// disableMaxPrivilege leaves a token no privilege but that to pass through
// folders.
const disableMaxPrivilege = 1

// restrictedToken is this user's, with as good as no rights.
func restrictedToken() (windows.Token, error) {
	var own windows.Token
	if err := windows.OpenProcessToken(windows.CurrentProcess(), windows.TOKEN_DUPLICATE|windows.TOKEN_QUERY|windows.TOKEN_ASSIGN_PRIMARY|windows.TOKEN_ADJUST_DEFAULT, &own); err != nil {
		return 0, fmt.Errorf("own token: %w", err)
	}
	defer own.Close()
	known := func(kind windows.WELL_KNOWN_SID_TYPE) (windows.SIDAndAttributes, error) {
		sid, err := windows.CreateWellKnownSid(kind)
		return windows.SIDAndAttributes{Sid: sid}, err
	}
	admins, err := known(windows.WinBuiltinAdministratorsSid)
	if err != nil {
		return 0, fmt.Errorf("administrators: %w", err)
	}
	// What it opens must be open to one of these as well.
	var only []windows.SIDAndAttributes
	for _, kind := range []windows.WELL_KNOWN_SID_TYPE{windows.WinRestrictedCodeSid, windows.WinBuiltinUsersSid, windows.WinWorldSid} {
		g, err := known(kind)
		if err != nil {
			return 0, fmt.Errorf("group %d: %w", kind, err)
		}
		only = append(only, g)
	}
	groups, err := own.GetTokenGroups()
	if err != nil {
		return 0, fmt.Errorf("own groups: %w", err)
	}
	for _, g := range groups.AllGroups() {
		if g.Attributes&windows.SE_GROUP_LOGON_ID == windows.SE_GROUP_LOGON_ID {
			only = append(only, windows.SIDAndAttributes{Sid: g.Sid}) // the desktop, which every program loads
		}
	}
	var token windows.Token
	ok, _, errno := createRestrictedToken.Call(uintptr(own), disableMaxPrivilege,
		1, uintptr(unsafe.Pointer(&admins)), 0, 0,
		uintptr(len(only)), uintptr(unsafe.Pointer(&only[0])), uintptr(unsafe.Pointer(&token)))
	if ok == 0 {
		return 0, fmt.Errorf("restricted token: %w", errno)
	}
	low, err := windows.CreateWellKnownSid(windows.WinLowLabelSid)
	if err == nil {
		label := windows.Tokenmandatorylabel{Label: windows.SIDAndAttributes{Sid: low, Attributes: windows.SE_GROUP_INTEGRITY}}
		err = windows.SetTokenInformation(token, windows.TokenIntegrityLevel, (*byte)(unsafe.Pointer(&label)), label.Size())
	}
	if err != nil {
		token.Close()
		return 0, fmt.Errorf("low integrity: %w", err)
	}
	return token, nil
}

// open lets restricted processes at path, and at what is below it.
func open(path string, rights windows.ACCESS_MASK) error {
	sd, err := windows.GetNamedSecurityInfo(path, windows.SE_FILE_OBJECT, windows.DACL_SECURITY_INFORMATION)
	if err != nil {
		return fmt.Errorf("rights of %s: %w", path, err)
	}
	old, _, err := sd.DACL()
	if err != nil {
		return fmt.Errorf("rights of %s: %w", path, err)
	}
	restricted, err := windows.CreateWellKnownSid(windows.WinRestrictedCodeSid)
	if err != nil {
		return fmt.Errorf("rights of %s: %w", path, err)
	}
	acl, err := windows.ACLFromEntries([]windows.EXPLICIT_ACCESS{{
		AccessPermissions: rights, AccessMode: windows.GRANT_ACCESS, Inheritance: windows.SUB_CONTAINERS_AND_OBJECTS_INHERIT,
		Trustee: windows.TRUSTEE{TrusteeForm: windows.TRUSTEE_IS_SID, TrusteeType: windows.TRUSTEE_IS_WELL_KNOWN_GROUP, TrusteeValue: windows.TrusteeValueFromSID(restricted)},
	}}, old)
	if err != nil {
		return fmt.Errorf("rights of %s: %w", path, err)
	}
	if err := windows.SetNamedSecurityInfo(path, windows.SE_FILE_OBJECT, windows.DACL_SECURITY_INFORMATION, nil, nil, acl, nil); err != nil {
		return fmt.Errorf("rights of %s: %w", path, err)
	}
	return nil
}

// lowIntegrity lets processes of low integrity write to path and below it.
func lowIntegrity(path string) error {
	sd, err := windows.SecurityDescriptorFromString("S:(ML;OICI;NW;;;LW)")
	if err != nil {
		return fmt.Errorf("integrity of %s: %w", path, err)
	}
	sacl, _, err := sd.SACL()
	if err == nil {
		err = windows.SetNamedSecurityInfo(path, windows.SE_FILE_OBJECT, windows.LABEL_SECURITY_INFORMATION, nil, nil, nil, sacl)
	}
	if err != nil {
		return fmt.Errorf("integrity of %s: %w", path, err)
	}
	return nil
}
