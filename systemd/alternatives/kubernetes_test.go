package alternatives_test

import (
	"maps"
	"net"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/holdfast-go/holdfast/upgrade/settings"
)

// The manifests fit together, with the configuration in them, and with the image.
func TestManifestsFitTogether(t *testing.T) {
	require.Empty(t, parse(t, manifests(t)).problems(t, readImage(t)))
}

// The image is built by the Go that the module asks for.
func TestImageHasTheModulesGo(t *testing.T) {
	mod, err := os.ReadFile("../../go.mod")
	require.NoError(t, err)
	version := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindSubmatch(mod)
	require.Equal(t, "docker.io/library/golang:"+string(version[1]), readImage(t).from)
}

// Each of these manifests would be accepted, and would lose requests or pods.
func TestManifestsThatDoNotFit(t *testing.T) {
	for _, tc := range []struct{ kind, old, new, want string }{
		{"service", "selector:\n    app.kubernetes.io/name: holdfast", "selector:\n    app.kubernetes.io/name: other", "the Service selects no pod"},
		{"poddisruptionbudget", "matchLabels:\n      app.kubernetes.io/name: holdfast", "matchLabels:\n      app: holdfast", "the PodDisruptionBudget selects no pod"},
		{"deployment", "matchLabels:\n      app.kubernetes.io/name: holdfast", "matchLabels:\n      app: holdfast", "the Deployment selects no pod"},
		{"deployment", "labelSelector:\n            matchLabels:\n              app.kubernetes.io/name: holdfast", "labelSelector:\n            matchLabels:\n              app: x", "the spread selects no pod"},
		{"service", "targetPort: http", "targetPort: web", "the Service's port web is none of the pod"},
		{"deployment", "path: /livez\n              port: http", "path: /livez\n              port: web", "a probe's port web is none of the pod"},
		{"deployment", "containerPort: 8080", "containerPort: 8081", "the pod's port is not that of the configuration"},
		{"configmap", `addr: ":8080"`, `addr: "127.0.0.1:8080"`, "the service is for its own pod only"},
		{"configmap", "drain-timeout: 30s", "drain-timeout: 55s", "the grace period of 1m0s is not longer than preStop and a stop, 1m0s"},
		{"configmap", "drain-timeout: 30s", "drain-timeout: 30s\n    stop-delay: 25s", "the grace period of 1m0s is not longer"},
		{"configmap", "drain-timeout: 30s", "drain-timeout: 50s", "supervise ends a stop after 45s, the service may take 50s"},
		{"deployment", "terminationGracePeriodSeconds: 60", "terminationGracePeriodSeconds: 50", "not longer than preStop and a stop, 50s"},
		{"deployment", "terminationGracePeriodSeconds: 60", "terminationGracePeriodSeconds: 35", "the grace period of 35s is not longer"},
		{"deployment", "seconds: 5", "seconds: 0", "nothing waits for the endpoints"},
		{"deployment", "maxUnavailable: 0", "maxUnavailable: 1", "a rollout begins by taking a pod away"},
		{"poddisruptionbudget", "maxUnavailable: 1", "maxUnavailable: 0", "no node can be drained"},
		{"deployment", "value: /etc/holdfast/config.yml", "value: /etc/holdfast/config.yaml", "HOLDFAST_CONFIG names no key of the ConfigMap"},
		{"deployment", "mountPath: /etc/holdfast\n", "mountPath: /etc/holdfast\n              subPath: x\n", "a subPath never changes"},
		{"deployment", "configMap:\n            name: holdfast", "configMap:\n            name: other", "the volume config is of another ConfigMap"},
		{"deployment", "mountPath: /run/holdfast", "mountPath: /run/app", "/run/holdfast is not writable"},
		{"deployment", "runAsUser: 65532", "runAsUser: 1000", "the pod's user is not the image's"},
		{"deployment", "path: /livez\n              port: http\n            periodSeconds: 10", "path: /readyz\n              port: http\n            periodSeconds: 10", "the liveness probe kills pods that are not ready"},
		{"deployment", "failureThreshold: 30", "failureThreshold: 3", "the startup probe gives up after 6s"},
		{"deployment", "runAsNonRoot: true", "runAsNonRoot: false", "not the restricted profile"},
		{"deployment", "- ALL", "- NET_RAW", "not the restricted profile"},
		{"deployment", "readOnlyRootFilesystem: true", "readOnlyRootFilesystem: false", "not the restricted profile"},
	} {
		texts := manifests(t)
		require.Contains(t, texts[tc.kind], tc.old)
		texts[tc.kind] = strings.Replace(texts[tc.kind], tc.old, tc.new, 1)
		require.Contains(t, strings.Join(parse(t, texts).problems(t, readImage(t)), "\n"), tc.want, tc.new)
	}
}

// problems says what would not work, though each manifest for itself is right.
func (c cluster) problems(t *testing.T, img image) (all []string) {
	t.Helper()
	say := func(broken bool, what string) {
		if broken {
			all = append(all, what)
		}
	}
	spec, p := c.deployment.Spec, c.deployment.Spec.Template.Spec
	selects := func(want map[string]string) bool {
		labels := maps.Clone(spec.Template.Metadata.Labels)
		maps.Copy(labels, want)
		return len(want) > 0 && maps.Equal(labels, spec.Template.Metadata.Labels)
	}
	say(!selects(spec.Selector.MatchLabels), "the Deployment selects no pod")
	say(!selects(c.service.Spec.Selector), "the Service selects no pod")
	say(!selects(c.budget.Spec.Selector.MatchLabels), "the PodDisruptionBudget selects no pod")
	say(len(p.Spread) != 1 || !selects(p.Spread[0].LabelSelector.MatchLabels), "the spread selects no pod")
	update := spec.Strategy.RollingUpdate
	say(update.MaxUnavailable == nil || *update.MaxUnavailable != 0 || update.MaxSurge < 1, "a rollout begins by taking a pod away")
	say(c.budget.Spec.MaxUnavailable < 1, "no node can be drained")
	if len(p.Containers) != 1 || len(c.config.Data) != 1 {
		return append(all, "want one container and one configuration file")
	}
	box, s := p.Containers[0], c.settings(t)
	box.checkPorts(t, say, s.Server, c, img)
	box.checkFiles(say, c, img)

	grace, preStop := seconds(p.Grace), seconds(box.Lifecycle.PreStop.Sleep.Seconds)
	say(preStop+s.StopDelay <= 0, "nothing waits for the endpoints")
	stop := s.StopDelay + s.DrainTimeout
	say(s.StopTimeout <= stop, "supervise ends a stop after "+s.StopTimeout.String()+", the service may take "+stop.String())
	for _, d := range []time.Duration{stop, s.StopTimeout} {
		say(grace <= preStop+d, "the grace period of "+grace.String()+" is not longer than preStop and a stop, "+(preStop+d).String())
	}
	say(box.Liveness.HTTP.Path == "/readyz", "the liveness probe kills pods that are not ready")
	if patience := seconds(box.Startup.Period * box.Startup.Failure); patience <= s.WarmUpTimeout {
		all = append(all, "the startup probe gives up after "+patience.String())
	}
	sec := box.SecurityContext
	say(!p.SecurityContext.RunAsNonRoot || p.SecurityContext.Seccomp.Type != "RuntimeDefault" || !sec.ReadOnly ||
		sec.Escalation == nil || *sec.Escalation || strings.Join(sec.Caps.Drop, ",") != "ALL", "not the restricted profile")
	return all
}

func seconds(n int) time.Duration { return time.Duration(n) * time.Second }

func (box container) checkPorts(t *testing.T, say func(bool, string), s settings.Server, c cluster, img image) {
	t.Helper()
	ports := map[string]int{}
	for _, port := range box.Ports {
		ports[port.Name] = port.ContainerPort
	}
	for _, port := range c.service.Spec.Ports {
		say(ports[port.TargetPort] == 0, "the Service's port "+port.TargetPort+" is none of the pod")
	}
	for _, p := range []probe{box.Startup, box.Readiness, box.Liveness} {
		say(ports[p.HTTP.Port] == 0, "a probe's port "+p.HTTP.Port+" is none of the pod")
	}
	host, port, err := net.SplitHostPort(s.Addr[0])
	require.NoError(t, err)
	say(host != "", "the service is for its own pod only")
	say(port != strconv.Itoa(ports["http"]) || port != img.port, "the pod's port is not that of the configuration")
}

func (box container) checkFiles(say func(bool, string), c cluster, img image) {
	p := c.deployment.Spec.Template.Spec
	key, _ := c.file()
	mounts := map[string]string{} // from volume to path
	for _, m := range box.Mounts {
		mounts[m.Name] = m.Path
		say(m.SubPath != "", "a subPath never changes")
	}
	config, writable := "", false
	for _, v := range p.Volumes {
		if v.ConfigMap != nil {
			config = mounts[v.Name] + "/" + key
			say(v.ConfigMap.Name != c.config.Metadata.Name, "the volume "+v.Name+" is of another ConfigMap")
		}
		writable = writable || v.EmptyDir != nil && mounts[v.Name] == img.pidDir
	}
	env := map[string]string{}
	for _, e := range box.Env {
		env[e.Name] = e.Value
	}
	say(config != env["HOLDFAST_CONFIG"], "HOLDFAST_CONFIG names no key of the ConfigMap")
	say(!writable, img.pidDir+" is not writable")
	id := p.SecurityContext
	say(img.user != strconv.Itoa(id.RunAsUser) || img.user != strconv.Itoa(id.FSGroup), "the pod's user is not the image's")
}
