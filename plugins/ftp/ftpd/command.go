package ftpd

import (
	"context"
	"slices"
	"strings"
)

// handler is what a command does. Its reply is sent when it returns.
type handler struct {
	do     func(c *client, arg string) reply
	before bool // it may come before the login
	needs  bool // an argument
}

// commands are those that there are. What is not among them is answered with 500, or 502 if
// it is one of FTP's.
var commands map[string]handler

func init() { // HELP reads it
	commands = map[string]handler{
		"USER": {(*client).userCommand, true, true}, "PASS": {(*client).passCommand, true, false},
		"AUTH": {(*client).authCommand, true, true}, "PBSZ": {(*client).pbszCommand, true, true}, "PROT": {(*client).protCommand, true, true},
		"FEAT": {(*client).featCommand, true, false}, "OPTS": {(*client).optsCommand, true, true}, "SYST": {(*client).systCommand, true, false},
		"HELP": {(*client).helpCommand, true, false}, "NOOP": {(*client).noopCommand, true, false}, "QUIT": {(*client).quitCommand, true, false},
		"STAT": {(*client).statCommand, false, false}, "ABOR": {(*client).aborCommand, false, false}, "ALLO": {(*client).alloCommand, false, false},
		"TYPE": {(*client).typeCommand, false, true}, "MODE": {(*client).modeCommand, false, true}, "STRU": {(*client).struCommand, false, true},
		"PWD": {(*client).pwdCommand, false, false}, "CWD": {(*client).cwdCommand, false, true}, "CDUP": {(*client).cdupCommand, false, false},
		"PASV": {(*client).pasvCommand, false, false}, "EPSV": {(*client).epsvCommand, false, false},
		"PORT": {(*client).portCommand, false, true}, "EPRT": {(*client).eprtCommand, false, true},
		"REST": {(*client).restCommand, false, true}, "RETR": {(*client).retrCommand, false, true}, "STOR": {(*client).storCommand, false, true},
		"LIST": {(*client).listCommand, false, false}, "NLST": {(*client).nlstCommand, false, false},
		"MLSD": {(*client).mlsdCommand, false, false}, "MLST": {(*client).mlstCommand, false, false},
		"SIZE": {(*client).sizeCommand, false, true}, "MDTM": {(*client).mdtmCommand, false, true},
		"RNFR": {(*client).rnfrCommand, false, true}, "RNTO": {(*client).rntoCommand, false, true},
		"DELE": {(*client).deleCommand, false, true}, "RMD": {(*client).rmdCommand, false, true}, "MKD": {(*client).mkdCommand, false, true},
	}
	for old, now := range map[string]string{"XPWD": "PWD", "XCWD": "CWD", "XCUP": "CDUP", "XMKD": "MKD", "XRMD": "RMD"} {
		commands[old] = commands[now]
	}
}

// refused are commands of FTP that are not done, with why.
var refused = map[string]string{
	"ACCT": "There are no accounts beside users.",
	"APPE": "A file is sent whole, with STOR: another cannot be added to.",
	"STOU": "Give the file a name, with STOR.",
	"SITE": "There is nothing of this site's own.",
	"REIN": "Make a new connection.",
	"SMNT": "There is nothing to mount.",
	"CCC":  "Commands stay encrypted.",
	"LPRT": "Use EPRT.",
	"LPSV": "Use EPSV.",
	"MFMT": "A file's time is when it came.",
	"HASH": "No checksums are computed.",
}

// do is the reply to a command. Code 0: it has none.
func (c *client) do(cmd command) reply {
	if cmd.verb == "" {
		return say(500, "This is no command.")
	}
	h, ok := commands[cmd.verb]
	if cmd.verb != "RNTO" {
		c.rename = ""
	}
	switch why := refused[cmd.verb]; {
	case why != "":
		return say(502, "%s", why)
	case !ok:
		return say(500, "There is no such command.")
	case !h.before && c.session == nil:
		return say(530, "Log in first.")
	case h.needs && cmd.arg == "":
		return say(501, "Something has to follow %s.", cmd.verb)
	}
	return h.do(c, cmd.arg)
}

func (c *client) noopCommand(string) reply { return say(200, "Yes.") }

func (c *client) quitCommand(string) reply {
	c.over = true
	return say(221, "Goodbye.")
}

func (c *client) systCommand(string) reply { return say(215, "UNIX Type: L8") }

func (c *client) alloCommand(string) reply { return say(202, "Room is not reserved.") }

// aborCommand is of an ABOR when nothing is transferred.
func (c *client) aborCommand(string) reply {
	c.port.close()
	c.port = nil
	return say(226, "There is no transfer.")
}

func (c *client) helpCommand(string) reply {
	var known []string
	for verb := range commands {
		known = append(known, verb)
	}
	slices.Sort(known)
	return reply{214, []string{"These commands are known:", strings.Join(known, " "), "End."}}
}

func (c *client) featCommand(string) reply {
	lines := []string{"Extensions:", "ATOMIC", "EPRT", "EPSV", "MDTM", "MLST " + c.factsLine(), "REST STREAM", "SIZE", "TVFS", "UTF8"}
	if c.s.security != nil {
		lines = append(lines, "PBSZ", "PROT")
		if c.s.tls != "implicit" {
			lines = append(lines, "AUTH TLS")
		}
	}
	return reply{211, append(lines, "End.")}
}

func (c *client) optsCommand(arg string) reply {
	what, rest, _ := strings.Cut(strings.ToUpper(arg), " ")
	switch {
	case what == "UTF8" && rest != "OFF":
		return say(200, "Names are UTF-8, always.")
	case what == "MLST":
		return c.chooseFacts(rest)
	}
	return say(504, "There is no such choice.")
}

// typeCommand takes A and I, and converts for neither.
func (c *client) typeCommand(arg string) reply {
	switch strings.ToUpper(arg) {
	case "I", "L 8":
		c.ascii = false
		return say(200, "Files are sent as they are.")
	case "A", "A N":
		c.ascii = true
		return say(200, "Files are sent as they are, ends of lines too.")
	}
	return say(504, "Types are A and I.")
}

func (c *client) modeCommand(arg string) reply { return only(arg, "S", "Mode") }

func (c *client) struCommand(arg string) reply { return only(arg, "F", "Structure") }

func only(arg, one, what string) reply {
	if !strings.EqualFold(arg, one) {
		return say(504, "%s is %s only.", what, one)
	}
	return say(200, "%s is %s.", what, one)
}

// statCommand tells of the connection. During a transfer, transferring is what it tells of.
func (c *client) statCommand(arg string) reply {
	if arg != "" {
		return say(504, "Of files, MLST and LIST tell.")
	}
	return c.status("There is no transfer.")
}

func (c *client) status(transfer string) reply {
	typ, protection := "I", "clear"
	if c.ascii {
		typ = "A"
	}
	if c.prot {
		protection = "protected"
	}
	return reply{211, []string{"Status:", "You are " + c.user + ", in " + quoted(c.cwd) + ".", "Type " + typ + ", mode S, structure F, data connections " + protection + ".", transfer, "End."}}
}

func (c *client) pwdCommand(string) reply { return say(257, "%s is where you are.", quoted(c.cwd)) }

func (c *client) cdupCommand(string) reply { return c.cwdCommand("..") }

func (c *client) cwdCommand(arg string) reply {
	return c.asking(arg, func(ctx context.Context, name string) reply {
		if name != "/" {
			a, err := c.session.Stat(ctx, name)
			if err != nil {
				return c.failed("CWD", name, err)
			}
			if !a.Dir {
				return say(550, "%s: not a directory", name)
			}
		}
		c.cwd = name
		return say(250, "You are in %s.", quoted(name))
	})
}

// asking has the client's context for one question about one name.
func (c *client) asking(arg string, ask func(ctx context.Context, name string) reply) reply {
	name, bad := c.name(arg)
	if bad != nil {
		return *bad
	}
	ctx, cancel := c.call()
	defer cancel()
	return ask(ctx, name)
}
