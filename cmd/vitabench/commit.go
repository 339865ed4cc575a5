package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/crypto/ssh"

	"vita/forwarding/client"
	"vita/internal/atrest"
	"vita/keying/keeper"
	"vita/keying/ske"
	"vita/mgmt/access"
	"vita/mgmt/datastore"
	"vita/mgmt/nacm"
	"vita/mgmt/netconf"
	"vita/mgmt/notify"
	"vita/mgmt/restconf"
	"vita/mgmt/setup"
	"vita/mgmt/translate"
)

// CommitCmd measures the management plane: both servers in this process over
// loopback, durable commits, and an engine in another process behind them, whose
// tables each commit changes.
type CommitCmd struct {
	Routes int  `default:"1000" help:"Routes that are configured."`
	Rounds int  `default:"100" help:"Times that each operation is measured."`
	Bare   bool `help:"No engine behind the servers."`

	Access string `default:"admin" enum:"off,admin,rules" help:"Access control: off; admin: on, asked by an administrator; rules: by a user whose rules are about other things than routes."`
	JSON   bool   `name:"json" help:"Print one JSON object."`

	Profile string `placeholder:"DIR" help:"Writes profiles into this folder: load.prof (processor) and heap.prof of the load."`
}

// commitResult is what is printed. Memory and processor time are those of
// server and client together.
type commitResult struct {
	Routes        int     `json:"routes"`
	DataPlane     bool    `json:"data_plane"` // an engine is behind the servers
	LoadS         float64 `json:"load_s"`
	Commit        spread  `json:"netconf_commit_ms"`
	Put           spread  `json:"restconf_put_ms"`
	Subtree       spread  `json:"get_one_subtree_ms"`
	XPath         spread  `json:"get_one_xpath_ms"`
	GetAllMBs     float64 `json:"get_all_mb_s"`
	RSSMB         float64 `json:"rss_mb"`      // at rest, with what is shared with the engine
	PeakMB        float64 `json:"peak_rss_mb"` // at most, until then
	SessionsPerS  float64 `json:"sessions_per_s"`
	CPUPerCommitM float64 `json:"cpu_ms_per_commit"`
	Bulk          spread  `json:"bulk_ms"`                  // a thousand routes made and deleted, each with a commit
	Subscriber    float64 `json:"bulk_with_one_subscriber"` // times as long: the median of pairs, one after the other
}

type spread struct {
	Median float64 `json:"median"`
	P95    float64 `json:"p95"`
}

const (
	benchUser     = "bench"
	mostGetAll    = 9 // times that everything is read
	benchPassword = "a password of the benchmark"
	endOfMessage  = "]]>]]>"
)

// plane is both servers and what a client needs.
type plane struct {
	netconf, restconf string
	config            *ssh.ClientConfig
	web               *http.Client
	close             func() error
}

// startPlane starts the servers, with or without access control, and an engine for
// so many routes; none for 0.
func startPlane(control string, routes int) (*plane, error) {
	dir, err := os.MkdirTemp("", "vitabench")
	if err != nil {
		return nil, err
	}
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		return nil, err
	}
	users := access.NewUsers()
	hash, err := access.HashPassword(benchPassword)
	if err != nil {
		return nil, err
	}
	line := string(ssh.MarshalAuthorizedKey(signer.PublicKey()))
	bench := access.User{Name: benchUser, PasswordHash: hash, Keys: []string{line}}
	host, err := access.HostKey(dir)
	if err != nil {
		return nil, err
	}
	cert, err := access.Certificate(dir)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	p := &plane{}
	var applier datastore.Applier
	stop := func() error { return nil }
	if routes > 0 {
		if applier, stop, err = startEngine(context.WithoutCancel(ctx), filepath.Join(dir, "engine"), routes); err != nil {
			cancel()
			return nil, err
		}
	}
	events := notify.New(0)
	o := datastore.Options{Dir: dir, Applier: applier, Events: notify.Configuration{Hub: events}}
	if control == "off" {
		users = access.NewUsers(bench)
	} else {
		o.Access = &nacm.Control{}
		o.Followers = []datastore.Follower{{Module: access.Module, Name: access.Node, Prepare: users.Prepare}}
	}
	store, err := datastore.Open(o)
	if err == nil {
		err = store.Start(ctx)
	}
	if err == nil && control != "off" {
		err = setup.First(ctx, store, []access.User{bench})
	}
	if err != nil {
		cancel()
		return nil, err
	}
	go atrest.FreeMemory(ctx, restLook) // as vitad does
	ended := make(chan error, 2)
	serve := func(fn func(context.Context, net.Listener) error) (string, error) {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return "", err
		}
		go func() { ended <- fn(ctx, ln) }()
		return ln.Addr().String(), nil
	}
	if p.netconf, err = serve(netconf.New(netconf.Options{Datastore: store, Users: users, HostKey: host, Events: events}).Serve); err != nil {
		cancel()
		return nil, err
	}
	if p.restconf, err = serve(restconf.New(restconf.Options{Datastore: store, Users: users, Certificate: cert, Events: events}).Serve); err != nil {
		cancel()
		return nil, err
	}
	p.config = &ssh.ClientConfig{
		User: benchUser, Auth: []ssh.AuthMethod{ssh.PublicKeys(signer)}, HostKeyCallback: ssh.FixedHostKey(host.PublicKey()),
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: true} // our own, in this process
	p.web = &http.Client{Transport: transport}
	p.close = func() error {
		transport.CloseIdleConnections()
		cancel()
		return errors.Join(<-ended, <-ended, store.Close(), stop(), os.RemoveAll(dir))
	}
	return p, nil
}

// startEngine starts an engine as vita-engine is, with ports of no device, and
// returns what brings configurations into force there. Keys are configured, but
// nobody negotiates any.
func startEngine(ctx context.Context, socket string, routes int) (a *translate.Applier, stop func() error, err error) {
	child, err := startChild(ctx, []string{"gap-engine", "--socket", socket, "--routes", strconv.Itoa(routes)})
	if err != nil {
		return nil, nil, err
	}
	cl, err := client.Dial(ctx, socket)
	if err != nil {
		return nil, nil, errors.Join(err, child.discard())
	}
	k := keeper.New(keeper.Options{Engine: cl, Protocol: ske.Protocol{}})
	a = translate.NewApplier(cl, k, slog.New(slog.DiscardHandler))
	return a, func() error {
		a.Wait()
		return errors.Join(cl.Close(), child.discard())
	}, nil
}

// session is a NETCONF client with the framing of base:1.0.
type session struct {
	conn *ssh.Client
	in   io.WriteCloser
	out  io.Reader
	buf  []byte
}

func (p *plane) connect() (*session, error) {
	conn, err := ssh.Dial("tcp", p.netconf, p.config)
	if err != nil {
		return nil, err
	}
	ch, err := conn.NewSession()
	if err != nil {
		return nil, err
	}
	s := &session{conn: conn}
	if s.in, err = ch.StdinPipe(); err != nil {
		return nil, err
	}
	if s.out, err = ch.StdoutPipe(); err != nil {
		return nil, err
	}
	if err := ch.RequestSubsystem("netconf"); err != nil {
		return nil, err
	}
	hello := `<hello xmlns="urn:ietf:params:xml:ns:netconf:base:1.0"><capabilities><capability>urn:ietf:params:netconf:base:1.0</capability></capabilities></hello>`
	if _, err := io.WriteString(s.in, hello+endOfMessage); err != nil {
		return nil, err
	}
	_, err = s.read()
	return s, err
}

func (s *session) read() ([]byte, error) {
	s.buf = s.buf[:0]
	chunk := make([]byte, 256<<10)
	for {
		n, err := s.out.Read(chunk)
		s.buf = append(s.buf, chunk[:n]...)
		if bytes.HasSuffix(s.buf, []byte(endOfMessage)) {
			return s.buf, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// rpc carries out an operation; want is what its reply has to hold.
func (s *session) rpc(op, want string) ([]byte, error) {
	if err := s.send(op); err != nil {
		return nil, err
	}
	reply, err := s.read()
	if err == nil && !bytes.Contains(reply, []byte(want)) {
		return nil, fmt.Errorf("reply without %s: %.500s", want, reply)
	}
	return reply, err
}

// drain carries out an operation with a large reply, and returns its size. The
// reply is not kept, so that the memory that is measured is the server's.
func (s *session) drain(op string) (size int, err error) {
	if err := s.send(op); err != nil {
		return 0, err
	}
	const end = "</data></rpc-reply>" + endOfMessage
	chunk := make([]byte, 256<<10)
	var tail []byte
	for {
		n, err := s.out.Read(chunk)
		size += n
		tail = append(tail, chunk[max(0, n-len(end)):n]...)
		tail = append(tail[:0], tail[max(0, len(tail)-len(end)):]...)
		if bytes.HasSuffix(tail, []byte(endOfMessage)) {
			if string(tail) != end {
				err = fmt.Errorf("the reply ends with %s", tail)
			}
			return size, err
		}
		if err != nil {
			return 0, err
		}
	}
}

func (s *session) send(op string) error {
	_, err := io.WriteString(s.in, `<rpc message-id="1" xmlns="urn:ietf:params:xml:ns:netconf:base:1.0">`+op+`</rpc>`+endOfMessage)
	return err
}

func benchRoute(n int) string {
	return fmt.Sprintf(`<route4 xmlns="vita:esp-gateway"><id>site%d</id><net>10.%d.%d.%d/32</net><spi>%d</spi><preshared-key>%064x</preshared-key><gateway><ip>203.0.113.1</ip></gateway></route4>`,
		n, n>>16, n>>8&255, n&255, 1000+n, n)
}

// benchRules make the user one who may change the gateway, cannot see its users,
// and is no administrator.
const benchRules = `<nacm xmlns="urn:ietf:params:xml:ns:yang:ietf-netconf-acm" xmlns:nc="urn:ietf:params:xml:ns:netconf:base:1.0" xmlns:sys="urn:ietf:params:xml:ns:yang:ietf-system">
<groups><group><name>admin</name><user-name nc:operation="delete">` + benchUser + `</user-name></group><group><name>operator</name><user-name>` + benchUser + `</user-name></group></groups>
<rule-list><name>operator</name><group>operator</group>
<rule><name>users</name><path>/sys:system</path><action>deny</action></rule>
<rule><name>gateway</name><module-name>vita-esp-gateway</module-name><action>permit</action></rule>
</rule-list></nacm>`

func edited(config string) string {
	return `<edit-config><target><candidate/></target><config>` + config + `</config></edit-config>`
}

// measure times fn for each round.
func measure(rounds int, fn func(i int) error) (spread, error) {
	times := make([]float64, rounds)
	for i := range rounds {
		start := time.Now()
		if err := fn(i); err != nil {
			return spread{}, err
		}
		times[i] = float64(time.Since(start)) / 1e6
	}
	slices.Sort(times)
	return spread{times[rounds/2], times[rounds*95/100]}, nil
}

// Run measures and prints.
func (c *CommitCmd) Run() error {
	if c.Routes < 1 || c.Routes > 1<<20 || c.Rounds < 1 {
		return errors.New("--routes is 1 to 1048576, --rounds at least 1")
	}
	routes := c.Routes + 2*c.Rounds + 2*bulkRoutes
	if c.Bare {
		routes = 0
	}
	p, err := startPlane(c.Access, routes)
	if err != nil {
		return err
	}
	r, err := c.measure(p)
	if err := errors.Join(err, p.close()); err != nil {
		return err
	}
	return (&common{JSON: c.JSON}).print(r,
		fmt.Sprintf("%d routes loaded in %.2f s, %.0f MB resident at rest, %.0f at most", r.Routes, r.LoadS, r.RSSMB, r.PeakMB),
		fmt.Sprintf("edit-config and commit of one  %7.3f ms, p95 %.3f, processor %.3f", r.Commit.Median, r.Commit.P95, r.CPUPerCommitM),
		fmt.Sprintf("RESTCONF PUT of one            %7.3f ms, p95 %.3f", r.Put.Median, r.Put.P95),
		fmt.Sprintf("get one by subtree             %7.3f ms, p95 %.3f", r.Subtree.Median, r.Subtree.P95),
		fmt.Sprintf("get one by XPath               %7.3f ms, p95 %.3f", r.XPath.Median, r.XPath.P95),
		fmt.Sprintf("get-config of all              %7.1f MB/s", r.GetAllMBs),
		fmt.Sprintf("sessions                       %7.1f a second", r.SessionsPerS),
		fmt.Sprintf("1000 routes made and deleted   %7.1f ms, with one subscriber %.3f times that", r.Bulk.Median, r.Subscriber))
}

func (c *CommitCmd) measure(p *plane) (r commitResult, err error) {
	r.Routes, r.DataPlane = c.Routes, !c.Bare
	s, err := p.connect()
	if err == nil && c.Access == "rules" {
		_, err = s.rpc(`<edit-config><target><running/></target><config>`+benchRules+`</config></edit-config>`, "<ok/>")
	}
	if err != nil {
		return r, err
	}
	var all strings.Builder
	all.WriteString(`<private-interface4 xmlns="vita:esp-gateway"><ifname>private</ifname><ip>10.0.0.1</ip><nexthop-ip>10.0.0.2</nexthop-ip></private-interface4>` +
		`<public-interface4 xmlns="vita:esp-gateway"><ip>192.0.2.1</ip><ifname>public</ifname><nexthop-ip>192.0.2.2</nexthop-ip></public-interface4>`)
	for n := range c.Routes {
		all.WriteString(benchRoute(n))
	}
	const ok = "<ok/>"
	load := edited(all.String())
	all.Reset()
	profiled, err := c.profileLoad()
	if err != nil {
		return r, err
	}
	start := time.Now()
	if _, err = s.rpc(load, ok); err != nil {
		return r, err
	}
	if _, err = s.rpc("<commit/>", ok); err != nil {
		return r, err
	}
	r.LoadS = time.Since(start).Seconds()
	if err := profiled(); err != nil {
		return r, err
	}

	// The first commit waits until the load is in the second file as well.
	if _, err = s.rpc(edited(`<mtu xmlns="vita:esp-gateway">1400</mtu>`), ok); err != nil {
		return r, err
	}
	if _, err = s.rpc("<commit/>", ok); err != nil {
		return r, err
	}
	before := processorTime()
	if r.Commit, err = measure(c.Rounds, func(i int) error {
		if _, err := s.rpc(edited(benchRoute(c.Routes+i)), ok); err != nil {
			return err
		}
		_, err := s.rpc("<commit/>", ok)
		return err
	}); err != nil {
		return r, err
	}
	r.CPUPerCommitM = float64(processorTime()-before) / 1e6 / float64(c.Rounds)
	if r.Put, err = measure(c.Rounds, p.put); err != nil {
		return r, err
	}
	one := fmt.Sprintf("site%d", c.Routes/2)
	get := func(filter string) func(int) error {
		return func(int) error {
			_, err := s.rpc(`<get-config><source><running/></source>`+filter+`</get-config>`, "<id>"+one+"</id>")
			return err
		}
	}
	if r.Subtree, err = measure(c.Rounds, get(`<filter><route4 xmlns="vita:esp-gateway"><id>`+one+`</id></route4></filter>`)); err != nil {
		return r, err
	}
	if r.XPath, err = measure(c.Rounds, get(`<filter type="xpath" xmlns:v="vita:esp-gateway" select="/v:route4[v:id='`+one+`']"/>`)); err != nil {
		return r, err
	}
	var size int
	getAll, err := measure(min(c.Rounds, mostGetAll), func(int) (err error) {
		size, err = s.drain(`<get-config><source><running/></source></get-config>`)
		return err
	})
	if err != nil {
		return r, err
	}
	r.GetAllMBs = float64(size) / 1e3 / getAll.Median
	time.Sleep(4 * restLook)
	if r.RSSMB, r.PeakMB, err = resident(); err != nil {
		return r, err
	}
	start = time.Now()
	for range c.Rounds {
		one, err := p.connect()
		if err != nil {
			return r, err
		}
		if _, err := one.rpc("<close-session/>", ok); err != nil {
			return r, err
		}
		_ = one.conn.Close() // the server may have been faster
	}
	r.SessionsPerS = float64(c.Rounds) / time.Since(start).Seconds()
	if err := c.bulk(p, s, &r); err != nil {
		return r, err
	}
	return r, s.conn.Close()
}

// profileLoad begins the profiles that are asked for. The function that it
// returns ends them.
func (c *CommitCmd) profileLoad() (end func() error, err error) {
	if c.Profile == "" {
		return func() error { return nil }, nil
	}
	f, err := os.Create(filepath.Join(c.Profile, "load.prof"))
	if err == nil {
		err = pprof.StartCPUProfile(f)
	}
	if err != nil {
		return nil, err
	}
	return func() error {
		pprof.StopCPUProfile()
		heap, err := os.Create(filepath.Join(c.Profile, "heap.prof"))
		if err != nil {
			return err
		}
		runtime.GC()
		return errors.Join(f.Close(), pprof.WriteHeapProfile(heap), heap.Close())
	}, nil
}

// bulkRoutes is how many routes a large commit makes or deletes.
const bulkRoutes = 1000

// bulk measures large commits without a subscriber and with one, in pairs, the
// first of which is the one and the other in turn.
func (c *CommitCmd) bulk(p *plane, s *session, r *commitResult) error {
	var create, remove strings.Builder
	for n := range bulkRoutes {
		route := benchRoute(1<<21 + n)
		create.WriteString(route)
		id, _, _ := strings.Cut(route, "<net>")
		remove.WriteString(strings.Replace(id, "<route4 ", `<route4 xmlns:c="urn:ietf:params:xml:ns:netconf:base:1.0" c:operation="delete" `, 1) + "</route4>")
	}
	both := func(int) error {
		for _, config := range []string{create.String(), remove.String()} {
			for _, op := range []string{edited(config), "<commit/>"} {
				if _, err := s.rpc(op, "<ok/>"); err != nil {
					return err
				}
			}
		}
		return nil
	}
	var alone []float64
	var ratios []float64
	for i := range max(c.Rounds/5, 3) {
		var took [2]float64
		for j := range 2 {
			with := (i + j) % 2 // a subscriber
			var sub *session
			if with == 1 {
				var err error
				if sub, err = p.subscribe(); err != nil {
					return err
				}
			}
			one, err := measure(1, both)
			if sub != nil {
				_ = sub.conn.Close() // it has nothing to say
			}
			if err != nil {
				return err
			}
			took[with] = one.Median
		}
		alone = append(alone, took[0])
		ratios = append(ratios, took[1]/took[0])
	}
	slices.Sort(alone)
	slices.Sort(ratios)
	r.Bulk = spread{alone[len(alone)/2], alone[len(alone)*95/100]}
	r.Subscriber = ratios[len(ratios)/2]
	return nil
}

// subscribe begins a session that is told of everything, and reads it.
func (p *plane) subscribe() (*session, error) {
	sub, err := p.connect()
	if err != nil {
		return nil, err
	}
	if _, err := sub.rpc(`<create-subscription xmlns="urn:ietf:params:xml:ns:netconf:notification:1.0"/>`, "<ok/>"); err != nil {
		return nil, err
	}
	go func() { _, _ = io.Copy(io.Discard, sub.out) }() // until it is closed
	return sub, nil
}

func (p *plane) put(i int) error {
	q, err := http.NewRequest(http.MethodPut, "https://"+p.restconf+"/restconf/data/vita-esp-gateway:route4=site0/spi",
		strings.NewReader(fmt.Sprintf(`{"vita-esp-gateway:spi":%d}`, 1<<24+i)))
	if err != nil {
		return err
	}
	q.SetBasicAuth(benchUser, benchPassword)
	q.Header.Set("Content-Type", "application/yang-data+json")
	resp, err := p.web.Do(q)
	if err != nil {
		return err
	}
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusNoContent {
		err = fmt.Errorf("PUT: %s: %s", resp.Status, body)
	}
	return errors.Join(err, resp.Body.Close())
}

// processorTime is what this process has used.
func processorTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// restLook is how often the process looks whether it is at rest.
const restLook = time.Second

// resident is this process's memory in MB, now and at most.
func resident() (now, most float64, err error) {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(line, ":")
		to := map[string]*float64{"VmRSS": &now, "VmHWM": &most}[name]
		if to == nil {
			continue
		}
		if _, err := fmt.Sscan(value, to); err != nil {
			return 0, 0, fmt.Errorf("%s: %w", strings.TrimSpace(line), err)
		}
		*to *= 1024. / 1e6
	}
	return now, most, nil
}
