#!/bin/sh
# Makes an account server of a bare Debian (12 or newer): Portico, with Caddy in front of it.
#
#   sh install.sh --host pds.example.com --email you@example.com --portico portico_1.0.0_amd64.deb
#
# What is there already stays as it is, so that it may be run again: after something failed,
# or to see where one is. --help says more.
set -eu

usage() {
	cat <<'END'
usage: sh install.sh --host NAME --email ADDRESS --portico FILE [FLAGS]

Makes an account server of this machine: installs Portico and Caddy, writes settings with
fresh secrets, starts both, and makes a first invite code. Run it as root on Debian 12 or newer.

  --host NAME        the host name of the server; it and every name under it lead here by DNS
  --email ADDRESS    yours: certificates are asked for, and people write, with it
  --portico FILE     a package (.deb) or a binary for this machine, or an https:// URL of one
  --sha256 SUM       what the sum of FILE must be; a URL needs it
  --from ADDRESS     the sender of the server's mails. The mail server is in the environment,
                     as a password is in it:
                     PDS_EMAIL_SMTP_URL=smtps://user:password@smtp.example.com:465
  --set NAME=VALUE   one more setting, not a secret one; as often as you like
  --local            for a machine without a public name: certificates of an authority of its
                     own, and no relay or app view is told. Needs --plc
  --plc URL          the PLC directory where identities are registered, for ever
  --no-caddy         leave the proxy for TLS to you
  --no-systemd       where no systemd runs (a chroot, a container): start both in the background
  --dry-run          say what would be done, and do nothing
  --help             this

What is not given is asked for, if there is a terminal. Nothing that exists is written over.
END
}

say() { printf '%s\n' "$*"; }
step() { printf '%s\n' "- $*"; }
# die says what is wrong, and what to do.
die() {
	printf 'install.sh: %s\n' "$*" >&2
	exit 1
}
# does runs a command that changes something, unless nothing is to be changed.
does() {
	if [ "$dry" = yes ]; then say "  would run: $*"; else "$@"; fi
}
ask() { # QUESTION: the answer is in $answer
	[ -t 0 ] || return 1
	printf '%s ' "$1" >&2
	IFS= read -r answer
	[ -n "$answer" ]
}

settings=/etc/portico/portico.env
data=/var/lib/portico
caddyfile=/etc/caddy/Caddyfile
mark='# Written by the installer of Portico.'

read_flags() {
	host='' email='' package='' sum='' from='' more='' plc=''
	private=no caddy=yes systemd=yes dry=no
	while [ $# -gt 0 ]; do
		case "$1" in
		--host | --email | --portico | --sha256 | --from | --set | --plc)
			[ $# -gt 1 ] || die "$1 needs a value (see --help)"
			case "$1" in
			--host) host=$2 ;;
			--email) email=$2 ;;
			--portico) package=$2 ;;
			--sha256) sum=$2 ;;
			--from) from=$2 ;;
			--plc) plc=$2 ;;
			--set)
				printf '%s' "$2" | grep -Eqx '[A-Z][A-Z0-9_]*=[^'\''[:cntrl:]]+' || die "--set takes NAME=VALUE, without quotes: not $2"
				more="$more${2%%=*}='${2#*=}'
"
				;;
			esac
			shift
			;;
		--local) private=yes ;;
		--no-caddy) caddy=no ;;
		--no-systemd) systemd=no ;;
		--dry-run) dry=yes ;;
		--help | -h)
			usage
			exit 0
			;;
		*) die "there is no flag $1 (see --help)" ;;
		esac
		shift
	done
}

# look refuses what cannot end well, before anything is changed.
look() {
	[ "$(id -u)" = 0 ] || die 'it installs packages and writes to /etc: run it as root (sudo sh install.sh …)'
	for reference in /pds/pds.env /pds/compose.yaml; do
		[ ! -e "$reference" ] || die "the reference PDS is on this machine ($reference), with accounts that live on it. Portico takes them over as they are: follow ADOPTING.md, and do not run this"
	done
	if ! command -v apt-get >/dev/null || ! command -v dpkg >/dev/null; then
		die 'this is no Debian: see "Anywhere else" in OPERATING.md for how to install by hand'
	fi
	if [ -e "$settings" ]; then
		known=$(value PDS_HOSTNAME)
		[ -n "$known" ] || die "$settings has no PDS_HOSTNAME. It stays as it is: put one in, or move the file away if nothing uses it"
		if [ -n "$host" ] && [ "$host" != "$known" ]; then
			die "$settings is for the host $known, not $host. It stays as it is: see \"Moving to another host name\" in OPERATING.md"
		fi
		host=$known
		[ -n "$email" ] || email=$(value PDS_CONTACT_EMAIL_ADDRESS)
	fi
	[ -n "$host" ] || { ask 'Host name of the server (pds.example.com):' && host=$answer; } || die 'say which host name the server has: --host pds.example.com'
	printf '%s' "$host" | grep -Eqx '([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]([a-z0-9-]{0,61}[a-z0-9])?' ||
		die "--host $host: is no host name such as pds.example.com, in small letters and without https://"
	if [ ! -e "$settings" ]; then
		[ -n "$email" ] || { ask 'Your email address:' && email=$answer; } || die 'say where you are reached: --email you@example.com'
		is_address "$email" || die "--email $email: is no email address"
		smtp=${PDS_EMAIL_SMTP_URL:-}
		unset PDS_EMAIL_SMTP_URL # what is started here would have it, and believe it before the file
		if [ -z "$smtp" ] && [ -t 0 ]; then
			ask 'Mail server, smtps://user:password@host:465 (empty: no mails, so nobody can reset a password):' && smtp=$answer
		fi
		case "$smtp" in
		'') ;;
		*[\'[:cntrl:]]*) die 'PDS_EMAIL_SMTP_URL: a quote in a password is written %27 there' ;;
		smtp://* | smtps://*) ;;
		*) die 'PDS_EMAIL_SMTP_URL: must begin with smtps:// or smtp://' ;;
		esac
		if [ -n "$smtp" ]; then
			[ -n "$from" ] || { ask 'Sender of mails (accounts@example.com):' && from=$answer; } || die 'say who the mails come from: --from accounts@example.com'
			is_address "$from" || die "--from $from: is no email address"
		elif [ -n "$from" ]; then
			die '--from is of use with a mail server alone: set PDS_EMAIL_SMTP_URL in the environment'
		fi
		if [ "$private" = yes ] && [ -z "$plc" ]; then
			die '--local needs --plc: which directory is told of the accounts? What is registered at https://plc.directory stays there for ever, though nobody there could reach this server'
		fi
		case "$plc" in
		'' | http://* | https://*) ;;
		*) die "--plc $plc: is no URL" ;;
		esac
		case "$plc" in *[\'[:cntrl:]]*) die "--plc: has a quote" ;; esac
	fi
	if ! command -v portico >/dev/null; then
		[ -n "$package" ] || die 'say where Portico is: --portico portico_VERSION_amd64.deb, as "make deb" makes it'
		case "$package" in
		http://*) die "--portico $package: is not https" ;;
		https://*) [ -n "$sum" ] || die 'a file from the network needs --sha256, from where you trust it' ;;
		*)
			[ -f "$package" ] || die "--portico $package: there is no such file"
			look_at_file "$package"
			;;
		esac
	fi
	if [ "$systemd" = yes ] && [ ! -d /run/systemd/system ]; then
		systemd=absent
	fi
	if [ "$caddy" = yes ]; then
		if [ -e "$caddyfile" ] && ! ours && ! as_packed; then
			die "$caddyfile is in use, and stays as it is. Put in what \"TLS\" of OPERATING.md has for Caddy, and run this again with --no-caddy"
		fi
		if ! ours; then
			for port in 80 443; do
				! listened "$port" || [ -e "$caddyfile" ] || die "port $port is in use by another program, and Caddy needs it. Stop that, or let it pass on to Portico (\"TLS\" in OPERATING.md) and run this again with --no-caddy"
			done
		fi
	fi
	if [ "$private" = no ] && command -v getent >/dev/null; then
		for name in "$host" "portico-installer.$host"; do
			getent ahosts "$name" >/dev/null || say "warning: DNS leads nowhere for $name yet. Set an A record for $host and for *.$host; Caddy tries again until it can have a certificate"
		done
	fi
}

is_address() { printf '%s' "$1" | grep -Eqx '[A-Za-z0-9._%+-]+@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+'; }

# value is what the file of settings has for a name.
value() { sed -n "s/^$1=//p" "$settings" | tail -n 1 | tr -d "'\""; }

# local_url is where Caddy and this script ask the server.
local_url() {
	known=''
	[ ! -e "$settings" ] || known=$(value PDS_PORT)
	say "127.0.0.1:${known:-2583}"
}

# ours says whether the Caddyfile is of this script.
ours() { [ -e "$caddyfile" ] && grep -qF "$mark" "$caddyfile"; }

# as_packed says whether the Caddyfile is the one of Debian's package.
as_packed() {
	packed=$(dpkg-query --show --showformat='${Conffiles}\n' caddy 2>/dev/null | sed -n "s|^ $caddyfile \([0-9a-f]*\).*|\1|p")
	[ -n "$packed" ] && [ "$packed" = "$(md5sum <"$caddyfile" | cut -d ' ' -f 1)" ]
}

# listened says whether somebody listens at a port.
listened() {
	cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | awk -v port="$(printf '%04X' "$1")" '$4 == "0A" && $2 ~ ":" port "$" { found = 1 } END { exit !found }'
}

install_packages() {
	missing=''
	for name in ca-certificates curl; do installed "$name" || missing="$missing $name"; done
	if [ "$caddy" = yes ]; then installed caddy || missing="$missing caddy"; fi
	if [ -n "$missing" ]; then
		step "install$missing"
		does apt-get -qq update || die 'apt-get update failed, see above: is there a network, and /etc/apt/sources.list?'
		# shellcheck disable=SC2086 # names of packages
		does env DEBIAN_FRONTEND=noninteractive apt-get -qq -y install --no-install-recommends $missing >/dev/null ||
			die "apt-get install$missing failed, see above: put that right, and run this again"
	fi
}

installed() { [ "$(dpkg-query --show --showformat='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

install_portico() {
	if command -v portico >/dev/null; then
		[ -z "$package" ] || say "Portico is installed ($(command -v portico), $(portico version)) and stays as it is. For another version see \"Upgrades\" in OPERATING.md"
		return
	fi
	step "install Portico from $package"
	if [ "$dry" = yes ]; then
		say '  would check its sum, and install it'
		return
	fi
	fetched=$(mktemp -d)
	chmod 755 "$fetched" # apt reads as a user of its own
	file=$fetched/portico.deb
	case "$package" in
	https://*) curl -fsSL --proto '=https' --retry 3 -o "$file" "$package" || die "$package could not be fetched, see above" ;;
	*) cp "$package" "$file" ;;
	esac
	look_at_file "$file"
	if is_package "$file"; then
		DEBIAN_FRONTEND=noninteractive apt-get -qq -y install --no-install-recommends "$file" >/dev/null ||
			die 'the package could not be installed, see above'
	else
		chmod 755 "$file"
		"$file" version >/dev/null 2>&1 || die "$package does not run here: is it for another machine than $(dpkg --print-architecture)?"
		installed adduser || DEBIAN_FRONTEND=noninteractive apt-get -qq -y install --no-install-recommends adduser >/dev/null
		adduser --system --group --quiet --home "$data" --no-create-home portico
		install -m 755 "$file" /usr/local/bin/portico.new
		mv /usr/local/bin/portico.new /usr/local/bin/portico
		if [ ! -e /etc/systemd/system/portico.service ] && [ -d /etc/systemd/system ]; then
			/usr/local/bin/portico systemd >/etc/systemd/system/portico.service.new
			mv /etc/systemd/system/portico.service.new /etc/systemd/system/portico.service
		fi
	fi
	rm -rf "$fetched"
}

# look_at_file refuses what is not the file that was meant.
look_at_file() {
	if [ -n "$sum" ]; then
		is=$(sha256sum <"$1" | cut -d ' ' -f 1)
		[ "$is" = "$sum" ] || die "$package has the sum $is, and not $sum: it is not the file that you mean"
	fi
	is_package "$1" || [ "$(head -c 4 "$1" | od -An -tx1 | tr -d ' \n')" = 7f454c46 ] ||
		die "$package is neither a package of Portico nor a binary of it"
}

is_package() { [ "$(dpkg-deb --field "$1" Package 2>/dev/null)" = portico ]; }

secret() { od -An -v -tx1 -N "$1" /dev/urandom | tr -d ' \n'; }

write_settings() {
	if [ -e "$settings" ]; then
		return
	fi
	# Secrets are made once: without those that an account was made with, it is lost.
	if [ -e "$data/portico.sqlite" ]; then
		die "$data has a database already, but its secrets are not in $settings. Bring that file back from where you keep it"
	fi
	step "write $settings, with fresh secrets"
	[ "$dry" = no ] || return 0
	[ -d /etc/portico ] || install -d -m 750 -o portico -g portico /etc/portico
	[ -d "$data" ] || install -d -m 700 -o portico -g portico "$data"
	new=$(mktemp /etc/portico/.portico.env.XXXXXX) # for root alone
	settings_text >"$new"
	for made in PDS_JWT_SECRET PDS_ADMIN_PASSWORD PDS_PLC_ROTATION_KEY_K256_PRIVATE_KEY_HEX PORTICO_KEY_ENCRYPTION_KEY; do
		grep -Eqx "$made=[0-9a-f]{32,64}" "$new" || die "no secret could be made from /dev/urandom: $new is not used"
	done
	chown portico:portico "$new"
	sync "$new"
	ln "$new" "$settings" || die "$settings is there all of a sudden: is this run twice?"
	rm "$new"
}

settings_text() {
	cat <<END
# Settings of Portico: "portico config --env-file $settings" says what they mean.
# They have secrets. Keep a copy of this file away from this machine: without it no backup is
# of use, and whoever has it can do all that the server can.
PDS_HOSTNAME=$host
PORTICO_BIND=127.0.0.1
PORTICO_TRUSTED_PROXIES=1
PDS_DATA_DIRECTORY=$data
PDS_JWT_SECRET=$(secret 32)
PDS_ADMIN_PASSWORD=$(secret 16)
PDS_PLC_ROTATION_KEY_K256_PRIVATE_KEY_HEX=$(secret 32)
PORTICO_KEY_ENCRYPTION_KEY=$(secret 32)
PDS_CONTACT_EMAIL_ADDRESS=$email
PDS_RATE_LIMITS_ENABLED=true
END
	if [ -n "$smtp" ]; then
		printf "PDS_EMAIL_SMTP_URL='%s'\nPDS_EMAIL_FROM_ADDRESS=%s\n" "$smtp" "$from"
	fi
	if [ "$private" = no ]; then
		cat <<'END'
PDS_BSKY_APP_VIEW_URL=https://api.bsky.app
PDS_BSKY_APP_VIEW_DID=did:web:api.bsky.app
PDS_BSKY_APP_VIEW_CDN_URL_PATTERN=https://cdn.bsky.app/img/%s/plain/%s/%s
PDS_REPORT_SERVICE_URL=https://mod.bsky.app
PDS_REPORT_SERVICE_DID=did:plc:ar7c4by46qjdydhdevvrndac
PDS_CRAWLERS=https://bsky.network
END
	fi
	[ -z "$plc" ] || printf "PDS_DID_PLC_URL='%s'\n" "$plc"
	printf '%s' "$more"
}

# as_portico runs a command of Portico as the server's user, with its settings.
as_portico() { runuser -u portico -- "$(command -v portico)" "$@" --env-file "$settings"; }

check_settings() {
	[ "$dry" = no ] || return 0
	as_portico config >/dev/null || die "the settings in $settings are not complete, see above: edit that file, and run this again"
}

write_caddyfile() {
	[ "$caddy" = yes ] || return 0
	if ours; then
		return
	fi
	step "write $caddyfile"
	[ "$dry" = no ] || return 0
	server=$(local_url)
	caddyfile_text >"$caddyfile.new"
	chmod 644 "$caddyfile.new"
	caddy validate --adapter caddyfile --config "$caddyfile.new" >/dev/null 2>&1 || die "caddy does not take $caddyfile.new: caddy validate --adapter caddyfile --config $caddyfile.new says why"
	mv "$caddyfile.new" "$caddyfile"
}

caddyfile_text() {
	issuer=''
	[ "$private" = no ] || issuer=' internal'
	say "$mark"
	say '{'
	[ -z "$email" ] || [ "$private" = yes ] || say "	email $email"
	cat <<END
	on_demand_tls {
		ask http://$server/tls-check
	}
}

(portico) {
	reverse_proxy $server {
		lb_try_duration 30s
	}
}

$host {
END
	[ "$private" = no ] || say '	tls internal'
	cat <<END
	import portico
}

*.$host {
	tls$issuer {
		on_demand
	}
	import portico
}
END
}

start() {
	if [ "$systemd" = yes ]; then
		step 'start Portico, and Caddy'
		does systemctl daemon-reload
		does systemctl enable --quiet --now portico || die 'Portico does not start: journalctl -u portico says why'
		if [ "$caddy" = yes ]; then
			does systemctl enable --quiet caddy
			does systemctl reload-or-restart caddy || die 'Caddy does not start: journalctl -u caddy says why'
		fi
		return
	fi
	run_portico="runuser -u portico -- $(command -v portico || echo portico) serve --env-file $settings"
	run_caddy="setpriv --reuid caddy --regid caddy --init-groups --inh-caps +net_bind_service --ambient-caps +net_bind_service env HOME=/var/lib/caddy caddy run --config $caddyfile"
	if [ "$systemd" = absent ]; then
		say 'No systemd runs here, so nothing was started. Have whatever starts programs on this machine run, as root,'
		say "  $run_portico"
		[ "$caddy" = no ] || say "  $run_caddy"
		say 'or run this again with --no-systemd, which starts them in the background until the machine stops.'
		exit 0
	fi
	step 'start Portico, and Caddy, in the background: what they say is in /var/log/portico.log and /var/log/caddy.log'
	# shellcheck disable=SC2086 # a program and its arguments
	background portico $run_portico
	# shellcheck disable=SC2086
	[ "$caddy" = no ] || background caddy $run_caddy
}

# background starts a program unless it runs, or has what runs read its settings anew.
background() {
	name=$1
	shift
	program=$(command -v "$1")
	shift
	[ "$dry" = no ] || {
		say "  would start: $program $*"
		return
	}
	if ! runs "$name"; then
		start-stop-daemon --start --background --make-pidfile --pidfile "/run/$name.pid" \
			--output "/var/log/$name.log" --startas "$program" -- "$@" || die "$name does not start"
	elif [ "$name" = caddy ]; then
		caddy reload --config "$caddyfile" >/dev/null 2>&1 || die "Caddy does not take $caddyfile: caddy validate --config $caddyfile says why"
	fi
}

# answers waits until a URL is answered with 200, as long as the program runs that is to answer.
answers() { # NAME SECONDS CURL-ARGUMENTS...
	name=$1
	left=$2
	shift 2
	until curl -fsS --max-time 10 -o /dev/null "$@" 2>/dev/null; do
		left=$((left - 1))
		[ "$left" -gt 0 ] && runs "$name" || return 1
		sleep 1
	done
}

# runs says whether a program runs that start has started, or has systemd start.
runs() {
	if [ "$systemd" = yes ]; then
		[ "$(systemctl is-failed "$1")" != failed ]
	else
		kill -0 "$(cat "/run/$1.pid" 2>/dev/null)" 2>/dev/null
	fi
}

wait_for_both() {
	[ "$dry" = no ] || return 0
	step 'wait until it answers'
	logs="journalctl -u portico says why"
	[ "$systemd" = yes ] || logs="/var/log/portico.log says why"
	answers portico 60 "http://$(local_url)/xrpc/_health" || die "Portico does not answer on $(local_url): $logs"
	[ "$caddy" = yes ] || return 0
	logs="journalctl -u caddy"
	[ "$systemd" = yes ] || logs="/var/log/caddy.log"
	authority=''
	if [ "$private" = yes ] || grep -q 'tls internal' "$caddyfile"; then
		authority=/var/lib/caddy/.local/share/caddy/pki/authorities/local/root.crt
		i=0
		until [ -e "$authority" ] || [ "$i" -ge 30 ] || ! runs caddy; do
			i=$((i + 1))
			sleep 1
		done
	fi
	# Asked on this machine: whether the world reaches it, too, doctor finds out.
	answers caddy 120 ${authority:+--cacert "$authority"} --resolve "$host:443:127.0.0.1" "https://$host/xrpc/_health" ||
		die "https://$host is not answered. Mostly Caddy could not get a certificate: DNS has to lead $host here, and ports 80 and 443 must be open to the world. $logs says why; then run this again"
}

look_at_it() {
	[ "$dry" = no ] || return 0
	[ "$private" = no ] || return 0
	if portico doctor --help >/dev/null 2>&1; then
		step 'portico doctor'
		as_portico doctor || say 'warning: see the lines above that are not ok'
	fi
}

first_invite() {
	[ "$dry" = no ] || return 0
	accounts=$(as_portico account list) || die 'the server does not list its accounts, see above'
	code=''
	if ! printf '%s\n' "$accounts" | grep -q 'did:'; then
		codes=$(as_portico invite list --all) || die 'the server does not list its invite codes, see above'
		code=$(printf '%s\n' "$codes" | awk '$3 == "usable" { print $1; exit }')
		if [ -z "$code" ]; then
			step 'make a first invite code'
			code=$(as_portico invite create 2>/dev/null) || die 'no invite code could be made: portico invite create says why'
		fi
	fi
	say
	say "https://$host is an account server."
	say
	if [ -n "$code" ]; then
		say "An invite code, for one person: $code"
		say "They sign up with it at https://$host/invite/$code, or in Bluesky's app with the hosting provider $host."
		say
	fi
	say 'Or make an account yourself, as root:'
	say "  runuser -u portico -- portico account create alice.$host alice@example.com --env-file $settings"
	say
	say "Keep a copy of $settings away from this machine, NOW: without its secrets no backup is of use."
	say "  from your own machine: ssh root@$host cat $settings > portico.env"
	say 'Then see to backups: "Backups" in OPERATING.md (/usr/share/doc/portico).'
	[ -n "$(value PDS_EMAIL_SMTP_URL)" ] || say 'There is no mail server: nobody can confirm an address, reset a password or delete an account ("Mail" in OPERATING.md).'
}

main() {
	read_flags "$@"
	umask 022
	smtp='' fetched='' new=''
	trap 'rm -rf "$fetched" "$new"' EXIT
	look
	install_packages
	install_portico
	write_settings
	check_settings
	write_caddyfile
	start
	wait_for_both
	look_at_it
	first_invite
}

main "$@"
