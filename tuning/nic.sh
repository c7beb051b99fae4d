#!/bin/sh
# Spreads the work of a network card over the processors: queues, interrupts, RPS, RFS and XPS.
#
#   nic.sh [--dry-run] INTERFACE
#
# One queue a processor where the card has so many, and each queue's interrupt and sender on a
# processor of its own. Where it has fewer queues than there are processors, RPS hands the packets
# on in software. May be run again: what is so already is left alone. --dry-run only tells.
#
# Why: each core of the server has its own listening socket (SO_REUSEPORT) and its own ring. A
# packet that is handled by the processor that reads it finds its socket in that processor's cache.
set -eu

usage() {
    echo "usage: nic.sh [--dry-run] INTERFACE" >&2
    exit 2
}

dry_run=no
interface=
for argument in "$@"; do
    case $argument in
        --dry-run) dry_run=yes ;;
        -*) usage ;;
        *) [ -z "$interface" ] || usage; interface=$argument ;;
    esac
done
[ -n "$interface" ] || usage

# Another root is for trying the script on a tree of files.
root=${MOORING_NIC_ROOT:-}
queues=$root/sys/class/net/$interface/queues
[ -d "$queues" ] || { echo "nic.sh: no interface $interface" >&2; exit 1; }
if pgrep -x irqbalance >/dev/null 2>&1; then
    echo "nic.sh: irqbalance runs and would move the interrupts again: stop it first" >&2
fi

processors=${MOORING_NIC_PROCESSORS:-$(nproc --all)}
# Entries of the table of flows, for all queues together: the kernel's advice for busy hosts.
flows=32768

# Writes a value unless it is there already. Bit masks are compared without zeros and commas.
put() {
    value=$1 file=$2
    [ -e "$file" ] || return 0
    plain() { printf '%s' "$1" | tr -d ',\n' | sed 's/^0*//'; }
    if [ "$(plain "$(cat "$file" 2>/dev/null || true)")" = "$(plain "$value")" ]; then
        return 0
    fi
    echo "$value > ${file#"$root"}"
    [ "$dry_run" = yes ] && return 0
    # Some cards and virtual ones refuse; the rest is still worth doing.
    { printf '%s\n' "$value" >"$file"; } 2>/dev/null || echo "nic.sh: refused: $file" >&2
}

# The bit mask of processors $1 to $2, in words of 32 bits as the kernel writes them.
mask() {
    word=$(((processors - 1) / 32)) text=
    while [ "$word" -ge 0 ]; do
        bits=0 bit=0
        while [ "$bit" -lt 32 ]; do
            number=$((word * 32 + bit))
            if [ "$number" -ge "$1" ] && [ "$number" -le "$2" ]; then
                bits=$((bits | 1 << bit))
            fi
            bit=$((bit + 1))
        done
        text=${text:+$text,}$(printf '%08x' "$bits")
        word=$((word - 1))
    done
    printf '%s' "$text"
}

count() {
    set -- "$queues/$1"-*
    if [ -e "$1" ]; then echo $#; else echo 0; fi
}

set_queues() {
    command -v ethtool >/dev/null 2>&1 || return 0
    most=$(ethtool -l "$interface" 2>/dev/null |
        awk '/^Pre-set/ { seen = 1 } seen && /^Combined:/ { print $2; exit }')
    case $most in '' | *[!0-9]* | 0) return 0 ;; esac
    wanted=$most
    [ "$wanted" -le "$processors" ] || wanted=$processors
    [ "$(count rx)" -ne "$wanted" ] || return 0
    echo "ethtool -L $interface combined $wanted"
    [ "$dry_run" = yes ] || ethtool -L "$interface" combined "$wanted"
}

# Interrupts of the card, in the order of its queues.
set_interrupts() {
    index=0
    for path in "$root/sys/class/net/$interface/device/msi_irqs"/*; do
        [ -e "$path" ] || continue
        number=${path##*/}
        # The first is often the card's own, for changes of its link: it is harmless to place it.
        put "$((index % processors))" "$root/proc/irq/$number/smp_affinity_list"
        index=$((index + 1))
    done
}

set_receivers() {
    receivers=$(count rx)
    [ "$receivers" -gt 0 ] || return 0
    all=$(mask 0 $((processors - 1)))
    # With a queue a processor the card has spread them already.
    [ "$receivers" -lt "$processors" ] || all=$(mask 1 0)
    [ "$receivers" -ge "$processors" ] ||
        put "$flows" "$root/proc/sys/net/core/rps_sock_flow_entries"
    for queue in "$queues"/rx-*; do
        put "$all" "$queue/rps_cpus"
        [ "$receivers" -ge "$processors" ] ||
            put "$((flows / receivers))" "$queue/rps_flow_cnt"
    done
}

# Each sending queue belongs to the processors whose share it is.
set_senders() {
    senders=$(count tx) index=0
    [ "$senders" -gt 1 ] || return 0
    while [ "$index" -lt "$senders" ]; do
        first=$((index * processors / senders))
        last=$(((index + 1) * processors / senders - 1))
        [ "$last" -ge "$first" ] || last=$first
        put "$(mask "$first" "$last")" "$queues/tx-$index/xps_cpus"
        index=$((index + 1))
    done
}

set_queues
set_interrupts
set_receivers
set_senders
