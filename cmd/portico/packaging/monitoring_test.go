//go:build packaging

package packaging

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"portico/cmd/portico/launch"
)

// monitoring puts the files that the binary prints into a folder.
func monitoring(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for name, file := range map[string]string{"prometheus": "prometheus.yml", "alerts": "alerts.yml", "dashboard": "dashboard.json"} {
		text, _ := run(t, binary, "monitoring", name)
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// Prometheus takes its configuration and the alerts, and each of these fires for what it is about.
func TestAlerts(t *testing.T) {
	dir := monitoring(t)
	run(t, "promtool", "check", "config", filepath.Join(dir, "prometheus.yml"))
	run(t, "promtool", "check", "rules", filepath.Join(dir, "alerts.yml"))
	tests, err := os.ReadFile("testdata/alerts_test.yml")
	if err != nil {
		t.Fatal(err)
	}
	alerts, err := os.ReadFile(filepath.Join(dir, "alerts.yml"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(alerts)) {
		if _, name, ok := strings.Cut(strings.TrimSpace(line), "- alert: "); ok && !strings.Contains(string(tests), "- name: "+name+"\n") {
			t.Errorf("%s has no test", name)
		}
	}
	at := filepath.Join(dir, "alerts_test.yml")
	if err := os.WriteFile(at, tests, 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, "promtool", "test", "rules", at)
}

// What the dashboard asks is PromQL.
func TestDashboard(t *testing.T) {
	dir := monitoring(t)
	text, err := os.ReadFile(filepath.Join(dir, "dashboard.json"))
	if err != nil {
		t.Fatal(err)
	}
	var d struct {
		Panels []struct{ Targets []struct{ Expr string } }
	}
	if err := json.Unmarshal(text, &d); err != nil {
		t.Fatal(err)
	}
	rules, n := "groups:\n  - name: dashboard\n    rules:\n", 0
	for _, p := range d.Panels {
		for _, target := range p.Targets {
			n++
			expr := strings.NewReplacer("$__rate_interval", "1m", "$job", "portico", "$instance", ".*").Replace(target.Expr)
			rules += fmt.Sprintf("      - record: panel%d\n        expr: %q\n", n, expr)
		}
	}
	at := filepath.Join(dir, "panels.yml")
	if err := os.WriteFile(at, []byte(rules), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, _ := run(t, "promtool", "check", "rules", at); n < 50 || !strings.Contains(out, fmt.Sprintf("%d rules found", n)) {
		t.Errorf("%d questions: %s", n, out)
	}
}

// What a server shows is what Prometheus reads, under names as Prometheus wants them.
func TestMetricsAsPrometheusWantsThem(t *testing.T) {
	port, err := launch.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	address := fmt.Sprint("127.0.0.1:", port)
	s, err := launch.StartServer(t.Context(), binary, t.TempDir(), "PORTICO_METRICS_BIND="+address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Kill)
	answer, err := http.Get("http://" + address + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != 200 || !bytes.Contains(text, []byte("\nportico_healthy 1\n")) {
		t.Fatalf("%d %v %s", answer.StatusCode, err, text)
	}
	check := exec.CommandContext(t.Context(), "promtool", "check", "metrics")
	check.Stdin = bytes.NewReader(text)
	if out, err := check.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("%v\n%s", err, out)
	}
}
