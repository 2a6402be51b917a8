//go:build integration

package upgrade_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/holdfast-go/holdfast/routes/load"
	"github.com/holdfast-go/holdfast/routes/load/loadtest"
	"github.com/holdfast-go/holdfast/upgrade"
)

// build compiles a main package of this module, once, and returns its path.
func build(t testing.TB, pkg string) string {
	t.Helper()
	dir, err := upgrade.BuildDir(func() (string, error) { return os.MkdirTemp("", "holdfast-build-") })
	require.NoError(t, err)
	out := filepath.Join(dir, "holdfast"+strings.ReplaceAll(strings.TrimPrefix(pkg, "."), "/", "-"))
	if _, err := os.Stat(out); err == nil {
		return out
	}
	loadtest.Build(t, out, pkg)
	return out
}

// install copies a binary into place as a deploy would: beside, then renamed over.
func install(t testing.TB, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	require.NoError(t, err)
	installBytes(t, b, to, 0o755)
}

func installBytes(t testing.TB, b []byte, to string, mode os.FileMode) {
	t.Helper()
	require.NoError(t, os.WriteFile(to+".new", b, mode))
	require.NoError(t, os.Chmod(to+".new", mode))
	require.NoError(t, os.Rename(to+".new", to))
}

// start runs a server until the end of the test.
func start(t testing.TB, c load.Command) *load.Process {
	t.Helper()
	p, err := c.Start(context.Background())
	require.NoError(t, err)
	t.Cleanup(p.Kill) // does nothing after a Stop
	return p
}

// up upgrades the server once.
func up(t testing.TB, p *load.Process) load.Upgraded {
	t.Helper()
	u, err := p.Upgrade(context.Background())
	require.NoError(t, err)
	return u
}

// gone waits until a generation has ended.
func gone(t testing.TB, p *load.Process, pid int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	require.NoError(t, p.WaitGone(ctx, pid))
}

func stop(t testing.TB, p *load.Process) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	require.NoError(t, p.Stop(ctx))
}

// certificate makes a self-signed one for loopback, and a client that trusts it.
func certificate(t testing.TB, dir string) (cert, key string, client *tls.Config) {
	t.Helper()
	priv, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "holdfast test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &priv.PublicKey, priv)
	require.NoError(t, err)
	k, err := x509.MarshalPKCS8PrivateKey(priv)
	require.NoError(t, err)
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	require.NoError(t, os.WriteFile(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	require.NoError(t, os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: k}), 0o600))
	c, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	pool := x509.NewCertPool()
	pool.AddCert(c)
	return cert, key, &tls.Config{RootCAs: pool, ServerName: "127.0.0.1", MinVersion: tls.VersionTLS12}
}

// signal sends a signal to the process in the PID file, and returns its pid.
func signal(t testing.TB, pidFile string, sig syscall.Signal) int {
	t.Helper()
	pid, err := upgrade.ReadPIDFile(pidFile)
	require.NoError(t, err)
	require.NoError(t, syscall.Kill(pid, sig))
	return pid
}

// holdfastWait is the second command of a reload: its exit code and what it says.
func holdfastWait(t testing.TB, binary, pidFile string, pid int) (string, error) {
	t.Helper()
	b, err := exec.Command(binary, "wait", "--timeout", "1m", "--pid-file", pidFile, strconv.Itoa(pid)).CombinedOutput()
	return strings.TrimSpace(string(b)), err
}

// service is a process that is no holdfast binary, with all its generations.
type service struct {
	t      testing.TB
	exited chan struct{}
}

// startService starts a binary with its stderr in dir. At the end of the test the
// first generation is killed; later ones end by the test's own signals.
func startService(t testing.TB, binary, dir string, args ...string) *service {
	t.Helper()
	s := &service{t: t, exited: make(chan struct{})}
	f, err := os.Create(filepath.Join(dir, "service.log"))
	require.NoError(t, err)
	cmd := exec.Command(binary, append([]string{dir}, args...)...)
	cmd.Stderr = f
	require.NoError(t, cmd.Start())
	require.NoError(t, f.Close())
	go func() { defer close(s.exited); _ = cmd.Wait() }()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-s.exited
	})
	return s
}

// wait waits until a process is gone.
func (s *service) wait(pid int) {
	s.t.Helper()
	require.Eventually(s.t, func() bool { return syscall.Kill(pid, 0) != nil }, 20*time.Second, 2*time.Millisecond, "pid %d ends", pid)
}
