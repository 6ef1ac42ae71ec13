//! Finds libdpdk, compiles the shim and makes the bindings; without the feature `dynamic`, nothing.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=shim");
    #[cfg(feature = "dynamic")]
    if let Err(e) = dpdk::build() {
        println!("cargo::error={}", e.mend);
        eprintln!("{}", e.details);
        std::process::exit(1);
    }
}

#[cfg(feature = "dynamic")]
mod dpdk {
    use std::path::PathBuf;

    /// The release that the port is written for; the next one may change what its structs look like.
    const OLDEST: &str = "22.11";
    const TOO_NEW: &str = "22.12";
    /// What our own code calls; drivers are loaded by EAL from its plugin folder.
    const LIBRARIES: [&str; 5] = ["rte_ethdev", "rte_mbuf", "rte_mempool", "rte_ring", "rte_eal"];

    /// What a static binary holds: drivers, then what they stand on.
    ///
    /// Left out, as they cannot be had in one file: `net_pcap` (Debian's libpcap.a needs a libsystemd.a, which there is
    /// not), `net_af_xdp` (libxdp loads its program from a file of its own), `net_mlx5` and `net_mlx4` (libibverbs.a
    /// wants the drivers of every RDMA device there is). The dynamic build has them all.
    const STATIC_LIBRARIES: &[&str] = &[
        // Virtual ones.
        "rte_net_af_packet",
        "rte_net_memif",
        "rte_net_null",
        "rte_net_ring",
        "rte_net_tap",
        // Of virtual machines and clouds.
        "rte_net_ena",
        "rte_net_gve",
        "rte_net_virtio",
        "rte_net_vmxnet3",
        // Intel's; e1000 has igb.
        "rte_net_e1000",
        "rte_net_i40e",
        "rte_net_iavf",
        "rte_net_ice",
        "rte_net_igc",
        "rte_net_ixgbe",
        "rte_bus_pci",
        "rte_bus_vdev",
        "rte_common_iavf",
        "rte_mempool_ring",
        "rte_cryptodev",
        "rte_eal",
        "rte_ethdev",
        "rte_gso",
        "rte_hash",
        "rte_kvargs",
        "rte_mbuf",
        "rte_mempool",
        "rte_net",
        "rte_pci",
        "rte_rcu",
        "rte_ring",
        "rte_security",
        "rte_telemetry",
        "rte_timer",
    ];
    /// What those need, from packages that libdpdk-dev depends on.
    const STATIC_OTHERS: [&str; 3] = ["numa", "bsd", "md"];

    /// What the bindings hold.
    const FUNCTIONS: &[&str] = &[
        "mr_.*",
        "rte_eal_(init|has_hugepages|hotplug_add|hotplug_remove|iova_mode)",
        "rte_eth_dev_(adjust_nb_rx_tx_desc|close|configure|get_port_by_name|info_get|set_mtu|start|stop)",
        "rte_eth_(allmulticast_enable|link_get_nowait|macaddr_get|promiscuous_disable|promiscuous_enable|stats_get)",
        "rte_eth_dev_(socket_id|rss_hash_conf_get|rss_reta_query|rss_reta_update)",
        "rte_eth_(rx|tx)_queue_setup",
        "rte_eth_call_(rx|tx)_callbacks",
        "rte_eth_tx_done_cleanup",
        "rte_eth_xstats_(get|get_names)",
        "rte_mempool_(avail_count|create_empty|free|obj_iter|populate_default|set_ops_byname)",
        "rte_pktmbuf_(free_bulk|init|pool_init)",
        "rte_ring_(create|free)",
        "rte_strerror",
        "rte_thread_(register|unregister)",
        "rte_version",
    ];
    const TYPES: &[&str] = &[
        "rte_eth_(conf|dev_info|fp_ops|link|rss_conf|rss_reta_entry64|stats|xstat|xstat_name)",
        "rte_ethdev_qdata",
        "rte_ether_addr",
        "rte_mbuf",
        "rte_mbuf_ext_shared_info",
        "rte_mempool",
        "rte_pktmbuf_pool_private",
        "rte_ring",
    ];
    const CONSTANTS: &[&str] = &[
        "RTE_EAL_PMD_PATH",
        "RTE_ETH_MQ_RX_RSS",
        "RTE_ETH_RSS_NONFRAG_IPV[46]_TCP",
        "RTE_ETH_(RX|TX)_OFFLOAD_.*",
        "RTE_ETH_SPEED_NUM_UNKNOWN",
        "RTE_MBUF_F_(EXTERNAL|INDIRECT|RX_.*|TX_.*)",
        "RTE_MEMPOOL_F_NO_IOVA_CONTIG",
        "RTE_PKTMBUF_HEADROOM",
        "rte_eth_fp_ops",
    ];

    /// Why there are no bindings.
    pub struct Failure {
        /// What to do, in one line.
        pub mend: String,
        /// What the tool said.
        pub details: String,
    }

    impl Failure {
        fn new(mend: impl Into<String>, details: impl ToString) -> Failure {
            Failure { mend: mend.into(), details: details.to_string() }
        }
    }

    pub fn build() -> Result<(), Failure> {
        let library = pkg_config::Config::new()
            .range_version(OLDEST..TOO_NEW)
            // Its words for the linker name every library that there is.
            .cargo_metadata(false)
            .env_metadata(true)
            .probe("libdpdk")
            .map_err(|e| Failure::new(mend(&e), e))?;

        // pkg-config's crate gives no flags but -I, -D, -L and -l; DPDK's headers need these two as well.
        let flags = ["-include", "rte_config.h", "-march=corei7"];
        let mut shim = cc::Build::new();
        shim.file("shim/shim.c").includes(&library.include_paths).warnings(true);
        for flag in flags {
            shim.flag(flag);
        }
        shim.try_compile("millrace_dpdk_shim").map_err(|e| {
            Failure::new("DPDK's headers do not compile; is a C compiler there? apt-get install gcc", e)
        })?;
        for dir in &library.link_paths {
            println!("cargo::rustc-link-search=native={}", dir.display());
        }
        link();

        let mut bindings = bindgen::Builder::default()
            .header("shim/shim.h")
            .clang_args(flags)
            .clang_args(library.include_paths.iter().map(|dir| format!("-I{}", dir.display())))
            // RTE_BIT64 and the like are macros that only the compiler can evaluate.
            .clang_macro_fallback()
            .clang_macro_fallback_build_dir(out_dir())
            // Packed structs with aligned members: Rust has no such thing, and we no use for them.
            .opaque_type("rte_arp_.*|rte_l2tpv2.*|rte_gtp_psc.*")
            .derive_default(true)
            .layout_tests(false)
            .generate_comments(false)
            .use_core();
        for name in FUNCTIONS {
            bindings = bindings.allowlist_function(name);
        }
        for name in TYPES {
            bindings = bindings.allowlist_type(name);
        }
        for name in CONSTANTS {
            bindings = bindings.allowlist_var(name);
        }
        let no_libclang = "bindings to DPDK need libclang: apt-get install libclang-dev";
        // bindgen panics when it finds no libclang, and says what it looked for.
        let bindings = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| bindings.generate()))
            .map_err(|_| Failure::new(no_libclang, "see the panic above"))?
            .map_err(|e| Failure::new("no bindings could be made from DPDK's headers", e))?;
        // Where libclang cannot evaluate those macros (another build in the same folder, say), they are left out in silence.
        if !bindings.to_string().contains("RTE_ETH_TX_OFFLOAD_MULTI_SEGS") {
            return Err(Failure::new(
                "libclang has left macros of DPDK's out; build again",
                out_dir().display(),
            ));
        }
        let path = out_dir().join("bindings.rs");
        bindings.write_to_file(&path).map_err(|e| Failure::new(format!("cannot write {}", path.display()), e))
    }

    fn link() {
        if cfg!(feature = "static") {
            // Drivers announce themselves in constructors, which nobody calls by name: whole archives.
            for name in STATIC_LIBRARIES {
                println!("cargo::rustc-link-lib=static:+whole-archive,-bundle={name}");
            }
            for name in STATIC_OTHERS {
                println!("cargo::rustc-link-lib=static:-bundle={name}");
            }
        } else {
            for name in LIBRARIES {
                println!("cargo::rustc-link-lib=dylib={name}");
            }
        }
    }

    /// What to do when pkg-config does not find it.
    fn mend(e: &pkg_config::Error) -> String {
        match e {
            pkg_config::Error::Command { .. } => {
                "ports of kind \"dpdk\" need pkg-config: apt-get install pkg-config, or build without them: \
                 cargo build --no-default-features"
                    .to_owned()
            }
            _ => format!(
                "ports of kind \"dpdk\" need libdpdk, {OLDEST} or newer and older than {TOO_NEW}: \
                 apt-get install libdpdk-dev (Debian 12), or build without them: cargo build --no-default-features"
            ),
        }
    }

    fn out_dir() -> PathBuf {
        PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"))
    }
}
