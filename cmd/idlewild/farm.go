package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"idlewild/job"
	"idlewild/node"
	"idlewild/node/localapi"
	"idlewild/p2p"
)

func farmCommand(p *program) *cli.Command {
	return &cli.Command{
		Name:            "farm",
		Usage:           "make, join and look after a private farm",
		HideHelpCommand: true,
		Flags:           commonFlags(),
		OnUsageError:    usageError,
		Action: func(c *cli.Context) error {
			if name := c.Args().First(); name != "" {
				return usagef("there is no command %q; see: idlewild farm --help", "farm "+name)
			}
			return usagef("farm needs one of create, invite, open, close, opening, join, list, drop, leave, members, revoke, steward, backup, recover, rotate; see: idlewild farm --help")
		},
		Subcommands: []*cli.Command{
			command(p, &cli.Command{
				Name: "create", Usage: "make a farm with this machine as its owner", ArgsUsage: "[NAME]",
				Flags: []cli.Flag{asFlag()},
			}, 0, 1, farmCreate),
			command(p, &cli.Command{
				Name: "invite", Usage: "print a ticket that lets one machine in, once",
				Flags: []cli.Flag{
					&cli.DurationFlag{Name: "valid", Usage: "it can be used for `TIME`", Value: 24 * time.Hour},
					&cli.DurationFlag{Name: "guest", DefaultText: "for good", Usage: "whoever comes is a member for `TIME` only"},
					&cli.BoolFlag{DisableDefaultText: true, Name: "qr", Usage: "draw the ticket as a QR code where stdout is no terminal, too"},
				},
			}, 0, 0, farmInvite),
			command(p, &cli.Command{
				Name: "open", Usage: "let strangers work with members that take them, and print the line by which they come",
				Description: "Strangers are machines without a ticket. They do some work first, are never trusted, and reach only members\n" +
					"whose swarm.accept is strangers. What they are given are jobs submitted with --strangers.",
				Flags: []cli.Flag{
					&cli.DurationFlag{Name: "for", Usage: "end it after `TIME`", Value: p2p.OpenTime},
					&cli.IntFlag{Name: "difficulty", Usage: "have each work `N` bits: a core takes four seconds for 24, and twice as long for each more", Value: p2p.Difficulty},
				},
			}, 0, 0, farmOpen),
			command(p, &cli.Command{
				Name: "close", Usage: "let no strangers in any more, and those go that are here",
			}, 0, 0, farmClose),
			command(p, &cli.Command{
				Name: "opening", Usage: "print the line again by which strangers come, with where to ask now",
			}, 0, 0, farmOpening),
			command(p, &cli.Command{
				Name: "join", Usage: "join the farm that a ticket is for, or an open one as a stranger", ArgsUsage: "TICKET|OPENING",
				Flags: []cli.Flag{asFlag()},
			}, 1, 1, farmJoin),
			command(p, &cli.Command{
				Name: "list", Usage: "the farms that this machine is in",
				Description: "A machine may be in several farms: farm create and farm join take --as NAME, and every command --farm NAME. It has\n" +
					"another identity in each, and each has a folder in the data folder. Devices take turns where several farms have work.",
			}, 0, 0, farmList),
			command(p, &cli.Command{
				Name: "drop", Usage: "remove one of several farms from this machine, with its folder", ArgsUsage: "NAME",
				Flags: []cli.Flag{&cli.BoolFlag{DisableDefaultText: true, Name: "force", Usage: "also where this machine owns it or has open jobs in it"}},
			}, 1, 1, farmDrop),
			command(p, &cli.Command{
				Name: "leave", Usage: "leave the farm: nothing is done for its members any more, nor by them",
			}, 0, 0, farmLeave),
			command(p, &cli.Command{
				Name: "members", Usage: "who is in the farm",
			}, 0, 0, farmMembers),
			command(p, &cli.Command{
				Name: "revoke", Usage: "put a member out of the farm", ArgsUsage: "PEER",
			}, 1, 1, farmRevoke),
			command(p, &cli.Command{
				Name: "steward", Usage: "who goes on with this machine's jobs while it is silent; none: nobody", ArgsUsage: "[PEER...]",
			}, 0, job.MaxStewards, farmSteward),
			command(p, &cli.Command{
				Name: "backup", Usage: "write the farm's root key and members to a file, encrypted with a passphrase", ArgsUsage: "FILE",
				Description: "Without a backup nobody can be let in or put out any more once this machine is lost. Whoever has file and passphrase\n" +
					"owns the farm. The file is one of age (age-encryption.org).",
				Flags: passphraseFlags(),
			}, 1, 1, farmBackup),
			command(p, &cli.Command{
				Name: "recover", Usage: "make this machine an owner of the farm that a backup is of", ArgsUsage: "FILE",
				Flags: passphraseFlags(),
			}, 1, 1, farmRecover),
			command(p, &cli.Command{
				Name: "rotate", Usage: "replace the farm's root key by a new one",
				Description: "Members accept it also if they are away now; the old key, and backups and tickets made with it, are worth nothing any\n" +
					"more. Make a new backup afterwards. Programs older than this one leave the farm by it.",
				Flags: []cli.Flag{&cli.DurationFlag{Name: "carry", Usage: "members know each other by their old certificates for `TIME`; 0 if somebody else has the old key", Value: p2p.CarryTime}},
			}, 0, 0, farmRotate),
		},
	}
}

// maxGuest is how long a guest may stay: whoever comes for longer is a member.
const maxGuest = 366 * 24 * time.Hour

// asFlag names one farm more.
func asFlag() cli.Flag {
	return &cli.StringFlag{Name: "as", DefaultText: "it becomes the first", Usage: "beside the farms that this machine is in, under `NAME` for the other commands' --farm"}
}

// room is where a farm is created or joined: a new place where --as names one.
// done takes it back where that failed.
func (k *call) room() (client *localapi.Client, done func(error), err error) {
	first, err := k.client()
	if err != nil {
		return nil, nil, err
	}
	name := k.String("as")
	if name == "" {
		return first, func(error) { first.Close() }, nil
	}
	if k.String("farm") != "" {
		first.Close()
		return nil, nil, usagef("--as makes a new place and --farm names one that is there; leave one of them out")
	}
	at, err := first.AddFarm(k.Context.Context, name)
	if err == nil {
		client, err = dialSoon(k.Context.Context, at.DataDir)
	}
	done = func(err error) {
		if err != nil && at.DataDir != "" {
			_, _ = first.DropFarm(context.WithoutCancel(k.Context.Context), name, false) // what failed is said already
		}
		if client != nil {
			client.Close()
		}
		first.Close()
	}
	if err != nil {
		done(err)
		return nil, nil, err
	}
	return client, done, nil
}

// dialSoon waits until a door that is about to open does.
func dialSoon(ctx context.Context, dir string) (*localapi.Client, error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		c, err := localapi.Dial(dir)
		if err == nil {
			if _, err = c.Status(ctx); err == nil {
				return c, nil
			}
			c.Close()
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, err
		}
	}
}

func farmList(k *call) error {
	return withFarm(k, func(c *localapi.Client) ([]localapi.OneFarm, error) {
		return c.Farms(k.Context.Context)
	}, func(list []localapi.OneFarm) {
		rows := [][]string{{"NAME HERE", "FARM", "ROLE", "MEMBERS", "OPEN JOBS"}}
		for _, f := range list {
			name, farm, role := f.Name, f.Farm, f.Role
			if name == "" {
				name = "(first)"
			}
			switch {
			case f.Trouble != "":
				farm = "does not run: " + f.Trouble
			case f.ID == "":
				farm = "in no farm"
			case f.Revoked:
				role = "put out"
			}
			rows = append(rows, []string{name, oneLine(farm), role, fmt.Sprintf("%d, %d connected", f.Members, f.Connected), strconv.Itoa(f.OpenJobs)})
		}
		k.table(rows...)
	})
}

func farmDrop(k *call) error {
	name := k.Args().First()
	return withFarm(k, func(c *localapi.Client) ([]localapi.OneFarm, error) {
		return c.DropFarm(k.Context.Context, name, k.Bool("force"))
	}, func([]localapi.OneFarm) { k.say("This machine has no farm called %s any more.", clean(name)) })
}

// withFarm does one thing through the daemon and tells what came of it.
func withFarm[T any](k *call, do func(*localapi.Client) (T, error), tell func(T)) error {
	client, err := k.client()
	if err != nil {
		return err
	}
	defer client.Close()
	v, err := do(client)
	if err != nil {
		return err
	}
	return k.answer(v, func() { tell(v) })
}

func farmCreate(k *call) error {
	name := k.Args().First()
	if name == "" {
		cfg, _, err := k.config()
		if err != nil {
			return err
		}
		name = "farm"
		if cfg.Name != "" {
			name = "farm of " + cfg.Name
		}
	}
	client, done, err := k.room()
	if err != nil {
		return err
	}
	v, err := client.CreateFarm(k.Context.Context, name)
	done(err)
	if err != nil {
		return err
	}
	return k.answer(v, func() {
		k.say("farm %s (%s) with this machine as its owner; let others in with: idlewild farm invite%s", clean(v.Name), v.ID, k.there())
	})
}

// there is what the commands for the farm of --as need.
func (k *call) there() string {
	if name := k.String("as"); name != "" {
		return " --farm " + name
	}
	return ""
}

func farmInvite(k *call) error {
	valid := k.Duration("valid")
	if valid < time.Second || valid > p2p.MaxInvite {
		return usagef("--valid is %v; it may be 1s to %dh", valid, int(p2p.MaxInvite.Hours()))
	}
	stay := k.Duration("guest")
	if k.IsSet("guest") && (stay < time.Second || stay > maxGuest) {
		return usagef("--guest is %v; it may be 1s to %dh", stay, int(maxGuest.Hours()))
	}
	if k.Bool("qr") && k.json {
		return usagef("--qr draws for people: leave it out with --json")
	}
	var ticket string
	err := withFarm(k, func(c *localapi.Client) (localapi.Ticket, error) {
		t, err := c.InviteGuest(k.Context.Context, valid, stay)
		return localapi.Ticket{Ticket: t}, err
	}, func(t localapi.Ticket) {
		ticket = t.Ticket
		k.say("%s", t.Ticket)
	})
	if err != nil {
		return err
	}
	return k.showQR(ticket, k.Bool("qr"))
}

func farmJoin(k *call) error {
	client, done, err := k.room()
	if err != nil {
		return err
	}
	v, err := client.Join(k.Context.Context, k.Args().First())
	done(err)
	if err != nil {
		return err
	}
	return k.answer(v, func() {
		if v.Stranger {
			k.say("in the open farm %s (%s) as a stranger; who is reached shows: idlewild peers%s", clean(v.Name), v.ID, k.there())
			return
		}
		k.say("joined farm %s (%s)", clean(v.Name), v.ID)
		if there := k.there(); there != "" {
			k.say("its members and jobs: idlewild peers%s, idlewild submit%s", there, there)
		}
	})
}

func farmOpen(k *call) error {
	valid, bits := k.Duration("for"), k.Int("difficulty")
	if valid < time.Second || valid > p2p.MaxOpen {
		return usagef("--for is %v; it may be 1s to %dh", valid, int(p2p.MaxOpen.Hours()))
	}
	if bits < p2p.MinDifficulty || bits > p2p.MaxDifficulty {
		return usagef("--difficulty is %d; it may be %d to %d", bits, p2p.MinDifficulty, p2p.MaxDifficulty)
	}
	return withFarm(k, func(c *localapi.Client) (localapi.Opening, error) {
		line, err := c.OpenFarm(k.Context.Context, valid, bits)
		return localapi.Opening{Opening: line}, err
	}, func(o localapi.Opening) { k.say("%s", o.Opening) })
}

func farmClose(k *call) error {
	return withFarm(k, func(c *localapi.Client) (localapi.FarmView, error) {
		return c.CloseFarm(k.Context.Context)
	}, func(v localapi.FarmView) { k.say("farm %s is closed to strangers", clean(v.Name)) })
}

func farmOpening(k *call) error {
	return withFarm(k, func(c *localapi.Client) (localapi.Opening, error) {
		line, err := c.Opening(k.Context.Context)
		return localapi.Opening{Opening: line}, err
	}, func(o localapi.Opening) { k.say("%s", o.Opening) })
}

// openText is what there is to say of an open farm.
func openText(v localapi.FarmView) string {
	switch {
	case v.Stranger && v.Open.IsZero():
		return "this machine is a stranger here, and the farm is not open any more"
	case v.Stranger:
		return "this machine is a stranger here; the farm is open until " + v.Open.Local().Format(time.DateTime)
	case v.Open.IsZero():
		return ""
	case v.Takes:
		return "open to strangers until " + v.Open.Local().Format(time.DateTime)
	}
	return "open to strangers until " + v.Open.Local().Format(time.DateTime) + "; this machine takes none (swarm.accept)"
}

func farmMembers(k *call) error {
	return withFarm(k, func(c *localapi.Client) (localapi.FarmView, error) {
		return c.Peers(k.Context.Context)
	}, func(v localapi.FarmView) {
		if v.ID == "" {
			k.say("in no farm")
			return
		}
		rows := [][]string{{"PEER", "NAME", "", ""}}
		for _, m := range append(slices.Clone(v.Members), v.Strangers...) {
			rows = append(rows, []string{m.Peer, m.Name, roleText(m), lastSeen(m)})
		}
		k.table(rows...)
		if text := openText(v); text != "" {
			k.say("%s", text)
		}
	})
}

func farmLeave(k *call) error {
	return withFarm(k, func(c *localapi.Client) (localapi.FarmView, error) {
		return c.LeaveFarm(k.Context.Context)
	}, func(v localapi.FarmView) {
		k.say("This machine left farm %s. Jobs of its own that others were at wait until it is in a farm again; a new ticket lets it in.", clean(v.Name))
	})
}

func farmRevoke(k *call) error {
	return withFarm(k, func(c *localapi.Client) (localapi.FarmView, error) {
		return c.Revoke(k.Context.Context, k.Args().First())
	}, func(v localapi.FarmView) { k.say("%s is no member any more", clean(k.Args().First())) })
}

// farmSteward shows or sets the stewards of jobs that name none.
func farmSteward(k *call) error {
	cfg, _, err := k.config()
	if err != nil {
		return err
	}
	names := k.Args().Slice()
	if len(names) > 0 {
		list := []string{}
		if len(names) > 1 || names[0] != node.NoSteward {
			client, err := k.client()
			if err != nil {
				return err
			}
			defer client.Close()
			v, err := client.Peers(k.Context.Context)
			if err != nil {
				return err
			}
			for _, name := range names {
				id, err := memberNamed(v, name)
				if err != nil {
					return err
				}
				list = append(list, id)
			}
		}
		if err := node.WriteSettings(cfg.DataDir, map[string]string{"farm.stewards": strings.Join(list, ",")}); err != nil {
			return err
		}
		cfg.Farm.Stewards = list
	}
	return k.answer(struct {
		Stewards []string `json:"stewards"`
	}{cfg.Farm.Stewards}, func() {
		switch {
		case len(cfg.Farm.Stewards) == 0:
			k.say("no steward; name one with: idlewild farm steward PEER")
		case len(names) > 0:
			k.say("from the next submission on: %s; what is submitted from Blender after the daemon's next start", clean(strings.Join(cfg.Farm.Stewards, ", ")))
		default:
			k.say("%s", clean(strings.Join(cfg.Farm.Stewards, ", ")))
		}
	})
}

// memberNamed is the id of another member.
func memberNamed(v localapi.FarmView, name string) (string, error) {
	id := ""
	for _, m := range v.Members {
		if m.Self || m.Peer != name && m.Name != name {
			continue
		}
		if id != "" {
			return "", job.Refuse("steward", fmt.Sprintf("several members are called %q", name), "give the peer id, see: idlewild farm members")
		}
		id = m.Peer
	}
	if id == "" {
		return "", job.Refuse("steward", fmt.Sprintf("no other member is called %q", name), "see: idlewild farm members")
	}
	return id, nil
}

func roleText(m localapi.PeerView) string {
	switch {
	case m.Self:
		return "this machine"
	case m.Role == string(p2p.RoleStranger):
		return "stranger, no member"
	case !m.Expires.IsZero():
		return "guest until " + m.Expires.Local().Format(time.DateTime)
	}
	return ""
}

func lastSeen(m localapi.PeerView) string {
	switch {
	case m.Self:
		return ""
	case m.Connected:
		return "connected"
	case m.LastSeen.IsZero():
		return "never seen"
	}
	return "last seen " + m.LastSeen.Local().Format(time.DateTime)
}
